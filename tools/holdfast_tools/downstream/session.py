"""What can carry a call: the downstream's one connection, or a session that is leased."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.link import Exchange, Link

OnAsk = Callable[[Json], Awaitable[Json]]
"""Answers one request of a server, ``{"method", "params"?}``, with a result; raises MCPError for an error."""


class Session(Protocol):
    """One session with a server. Entered and left by the task that runs `run`.

    `opened` is set when it is usable, or never will be. `answered`: a call got its result here.
    """

    link: Link
    opened: asyncio.Event
    answered: bool

    @property
    def is_modern(self) -> bool:
        """Whether it speaks protocol version 2026-07-28 or later."""
        ...

    @property
    def usable(self) -> bool:
        """Whether a new request may be sent."""
        ...

    async def run(self) -> None:
        """Open, and serve until the link is over or `stop` is called. Never raises but for cancellation."""
        ...

    def stop(self, reason: str) -> None:
        """End now, whatever is under way."""
        ...

    def list_again(self) -> None:
        """Have the tools listed again soon, where that concerns this session."""
        ...

    async def request(
        self,
        method: str,
        params: Json,
        exchange: Exchange,
        *,
        client: ClientProfile | None,
        meta: Json,
        on_progress: sdk.OnProgress | None = None,
        on_message: sdk.OnMessage | None = None,
        on_ask: OnAsk | None = None,
        cancel_on_abandon: bool = True,
        timeout_s: float | None = None,
    ) -> Json:
        """Send one request on behalf of `client` and return the raw result. Raises MCPError as `sdk.request` does.

        `on_ask` answers what the server asks meanwhile: nothing, since 2026-07-28.
        """
        ...
