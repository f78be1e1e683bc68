"""What the transports of a downstream have in common: they note what became of each request, and when all is over."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from mcp.client._transport import TransportStreams

from holdfast_tools.downstream.attempt import Lost, NotSent


@dataclass(slots=True)
class Exchange:
    """What a transport notes about one request.

    `sent` is set immediately before the first byte is written. `verdict` is set where the transport knows that no
    answer will come, or that what came is none. `withdrawn` forbids to send what was not sent by then.
    """

    sent: bool = False
    verdict: NotSent | Lost | None = None
    withdrawn: bool = False

    def begin(self) -> bool:
        """Called immediately before the first byte: False where it was withdrawn, and nothing may be written."""
        self.sent = self.sent or not self.withdrawn
        return self.sent


class Link(AbstractAsyncContextManager[TransportStreams], ABC):
    """One connection's transport, in the form in which the SDK's `Client` takes it. Single use.

    `over` is set once no new request should be sent here, and `reason` says why; requests under way may still be
    answered where `outlives_failure`. `exchanges` are the requests under way, by their mark.
    """

    outlives_failure = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.over = asyncio.Event()
        self.exchanges: dict[str, Exchange] = {}
        self._reason: str | None = None

    @property
    def reason(self) -> str:
        """Why the link is over, as a clause that can follow the downstream's name and a colon."""
        return self._reason or "the connection ended"

    @property
    def stderr_tail(self) -> tuple[str, ...]:
        """The last lines that a child process wrote to stderr."""
        return ()

    @property
    def pid(self) -> int | None:
        """The child process, where there is one."""
        return None

    def fail(self, reason: str) -> None:
        """The link is over; the first reason stands."""
        if self._reason is None:
            self._reason = reason
        self.over.set()

    @abstractmethod
    async def __aenter__(self) -> TransportStreams:
        """Open the link. Raises DownstreamError where that cannot be."""
