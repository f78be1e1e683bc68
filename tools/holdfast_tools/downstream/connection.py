"""One connection to a downstream, from opening to end: handshake, listing, changes of the listing."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from importlib.metadata import version
from secrets import SystemRandom

import anyio
import mcp_types as types
from mcp.client.client import Client
from mcp.client.session import ClientSession
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.listing import list_tools

log = logging.getLogger("holdfast.downstream")

CLIENT_INFO = types.Implementation(name="holdfast", version=version("holdfast"))

QUIET_S = 0.2
LONGEST_BURST_S = 2.0
"""A burst of list changes is over after so much quiet, and listed anyway after so long."""

RELISTEN_FIRST_S = 0.5
RELISTEN_LONGEST_S = 30.0
LAST_ANSWERS_S = 5.0

_random = SystemRandom()


class Connection:
    """One `Client`, entered and left by the task that runs `run`. Single use.

    `opened` is set when the first listing has arrived or the connection has ended, `ended` when nothing of it is
    left. `on_listing` is called with each listing, the first before `opened`. `answered`: a call got its result here.
    """

    def __init__(self, link: Link, open_timeout_s: float, on_listing: Callable[["Connection"], None]) -> None:
        self.link = link
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.ready = False
        self.answered = False
        self.protocol_version = ""
        self.server_name: str | None = None
        self.instructions: str | None = None
        self.tools: tuple[Json, ...] = ()
        self._open_timeout_s = open_timeout_s
        self._on_listing = on_listing
        self._session: ClientSession | None = None
        self._scope = anyio.CancelScope()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._marks = itertools.count(1)

    async def run(self) -> None:
        """Open, serve until the link is over and the last answers are in, close. Never raises but for cancellation."""
        try:
            with self._scope:
                async with Client(
                    self.link,
                    mode="auto",
                    cache=None,
                    client_info=CLIENT_INFO,
                    message_handler=self._notified,
                    read_timeout_seconds=self._open_timeout_s,
                ) as client:
                    await self._open(client)
                    await self._serve(client)
        except Exception as error:
            log.debug("%s: the connection ended by an error", self.link.name, exc_info=True)
            if not self.link.over.is_set():
                self.link.fail(sentence(error))
        finally:
            self.link.over.set()
            self._session = None
            self.opened.set()
            self.ended.set()

    def stop(self, reason: str) -> None:
        """End now, whatever is under way."""
        self.link.fail(reason)
        self._scope.cancel()

    @property
    def usable(self) -> bool:
        """Whether a new request may be sent."""
        return self.ready and self._session is not None and not self.link.over.is_set()

    def list_again(self) -> None:
        """Have the tools listed again soon."""
        self._changed.set()

    async def call(
        self,
        name: str,
        arguments: Json,
        exchange: Exchange,
        *,
        meta: Json,
        on_progress: sdk.OnProgress | None,
        cancel_on_abandon: bool,
    ) -> Json:
        """Call a tool and return the raw result. Raises MCPError as `sdk.request` does."""
        if self._session is None:
            raise MCPError(types.CONNECTION_CLOSED, "Connection closed")
        mark = str(next(self._marks))
        self.link.exchanges[mark] = exchange
        try:
            return await sdk.request(
                self._session,
                "tools/call",
                {"name": name, "arguments": arguments},
                meta=meta,
                mark=mark,
                cancel_on_abandon=cancel_on_abandon,
                on_progress=on_progress,
            )
        finally:
            del self.link.exchanges[mark]
            if not self.link.exchanges:
                self._idle.set()

    async def _open(self, client: Client) -> None:
        if self.link.over.is_set():
            # A server that came up in the middle of the handshake may have been taken for one of the other era.
            raise DownstreamError(self.link.reason)
        self._session = client.session
        self.protocol_version = client.protocol_version
        self.server_name = client.server_info.name if client.server_info is not None else None
        self.instructions = client.instructions
        await self._list(client.session)
        self.ready = True
        self.opened.set()

    async def _list(self, session: ClientSession) -> None:
        self.tools = await list_tools(session, self._open_timeout_s)
        sdk.remember_header_parameters(session, self.tools)
        self._on_listing(self)

    async def _serve(self, client: Client) -> None:
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(self._follow_changes, client.session)
            tools = client.server_capabilities.tools
            if sdk.is_modern(self.protocol_version) and tools is not None and tools.list_changed:
                watchers.start_soon(self._listen, client)
            await self.link.over.wait()
            watchers.cancel_scope.cancel()
        with anyio.move_on_after(None if self.link.outlives_failure else LAST_ANSWERS_S):
            while self.link.exchanges:
                self._idle.clear()
                await self._idle.wait()

    async def _notified(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()
        elif isinstance(message, Exception):
            log.debug("%s: its transport reported %r", self.link.name, message)

    async def _follow_changes(self, session: ClientSession) -> None:
        """List again after each burst of changes."""
        while True:
            await self._changed.wait()
            with anyio.move_on_after(LONGEST_BURST_S):
                while self._changed.is_set():
                    self._changed.clear()
                    with anyio.move_on_after(QUIET_S):
                        await self._changed.wait()
            self._changed.clear()
            try:
                await self._list(session)
            except (MCPError, DownstreamError) as error:
                log.warning("%s: its changed tools could not be listed: %s", self.link.name, sentence(error))

    async def _listen(self, client: Client) -> None:
        """Keep a subscription to changes of the tools open. While there was none, anything may have changed."""
        pause_s = RELISTEN_FIRST_S
        while True:
            try:
                async with client.listen(tools_list_changed=True) as subscription:
                    pause_s = RELISTEN_FIRST_S
                    async for _ in subscription:
                        self._changed.set()
            except MCPError as error:
                if not sdk.made_up(error):
                    log.info("%s: it refuses to tell of changed tools: %s", self.link.name, error.message)
                    return
            except (SubscriptionLost, TimeoutError):
                log.debug("%s: the subscription to its changes was lost", self.link.name)
            await anyio.sleep(_random.uniform(pause_s / 2, pause_s))
            pause_s = min(RELISTEN_LONGEST_S, pause_s * 2)
            self._changed.set()


def sentence(error: BaseException) -> str:
    """What an error, or the first in a group of errors, says in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__
