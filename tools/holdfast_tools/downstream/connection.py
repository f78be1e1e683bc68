"""One connection to a downstream, from opening to end: handshake, listings, and what changes of them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from secrets import SystemRandom
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from mcp.client.client import Client
from mcp.client.session import ClientSession
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.bursts import Bursts
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.listing import Listing, list_all
from holdfast_tools.downstream.log_level import LogLevel
from holdfast_tools.downstream.news import Elicited, Kind, Offered, OnNews, Said, Updated, no_news
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.downstream.watch import RELISTEN_FIRST_S, RELISTEN_LONGEST_S, ResourceWatch

log = logging.getLogger("holdfast.downstream")

CLIENT_INFO = types.Implementation(name="holdfast", version=version("holdfast"))

OFFERED_WAIT_S = 2.0
"""How long a new connection waits for its prompts and resources; what does not come by then is listed later."""

_LIST_METHODS = {
    Kind.PROMPTS: ("prompts/list",),
    Kind.RESOURCES: ("resources/list", "resources/templates/list"),
}
_CHANGES: dict[type[types.ServerNotification], Kind] = {
    types.ToolListChangedNotification: Kind.TOOLS,
    types.PromptListChangedNotification: Kind.PROMPTS,
    types.ResourceListChangedNotification: Kind.RESOURCES,
}

_random = SystemRandom()


class Connection:
    """One `Client`, entered and left by the task that runs `run`. Single use.

    `opened` is set when the first listing has arrived or the connection has ended, `ended` when nothing of it is
    left. `on_listing` is called with each listing of tools, the first before `opened`; `on_news` with all else that the
    server tells. `watched` are the resources to hear of from the beginning. `answered`: a call got its result here.
    """

    def __init__(
        self,
        link: Link,
        open_timeout_s: float,
        on_listing: Callable[["Connection"], None],
        on_news: OnNews = no_news,
        watched: Iterable[str] = (),
    ) -> None:
        self.link = link
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.ready = False
        self.answered = False
        self.protocol_version = ""
        self.server_name: str | None = None
        self.instructions: str | None = None
        self.capabilities: Json = {}
        self.listing = Listing()
        self._open_timeout_s = open_timeout_s
        self._on_listing = on_listing
        self._on_news = on_news
        self._watched = tuple(watched)
        self._watch: ResourceWatch | None = None
        self._log_level = LogLevel(link.name, open_timeout_s)
        self._session: ClientSession | None = None
        self._scope = anyio.CancelScope()
        self._bursts = Bursts()
        self._changes: dict[Kind, bool] = {}
        self._heard: list[sdk.Asked] = []

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

    @property
    def is_modern(self) -> bool:
        """Whether it speaks protocol version 2026-07-28 or later."""
        return sdk.is_modern(self.protocol_version)

    def list_again(self) -> None:
        """Have the tools listed again soon."""
        self._note_change(Kind.TOOLS, told=False)

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

        Nobody is asked here: the handshake declared nothing that a server could ask, and since 2026-07-28 none does.
        """
        session = self._session
        if session is None:
            raise MCPError(types.CONNECTION_CLOSED, "Connection closed")
        asked = sdk.Asked(on_message)
        self._heard.append(asked)
        try:
            with self.link.exchanges.under_way(exchange) as mark:
                await self.lower_log_level(client.log_level if client is not None else None)
                return await sdk.request(
                    session,
                    method,
                    params,
                    client=client,
                    meta=meta,
                    mark=mark,
                    cancel_on_abandon=cancel_on_abandon,
                    timeout_s=timeout_s,
                    on_progress=on_progress,
                    on_behalf=asked,
                )
        finally:
            self._heard.remove(asked)

    async def lower_log_level(self, level: str | None) -> None:
        """Have a server of the handshake era send messages from `level` on; see `LogLevel`."""
        if self._session is not None and not self.is_modern:
            await self._log_level.lower(self._session, level)

    async def watch(self, uri: str) -> None:
        """Hear of changes of this resource. Raises MCPError and TimeoutError."""
        await self._resource_watch.add(uri)

    async def unwatch(self, uri: str) -> None:
        """Hear of them no more. Raises as `watch` does."""
        await self._resource_watch.discard(uri)

    @property
    def _resource_watch(self) -> ResourceWatch:
        if self._watch is None:
            raise MCPError(types.CONNECTION_CLOSED, "Connection closed")
        return self._watch

    async def _open(self, client: Client) -> None:
        if self.link.over.is_set():
            # A server that came up in the middle of the handshake may have been taken for one of the other era.
            raise DownstreamError(self.link.reason)
        self._session = client.session
        self.protocol_version = client.protocol_version
        self.server_name = client.server_info.name if client.server_info is not None else None
        self.instructions = client.instructions
        self.capabilities = client.server_capabilities.model_dump(by_alias=True, mode="json", exclude_none=True)
        await self._list_tools(client.session)
        await self._list_all_offered(client.session)
        self.ready = True
        self.opened.set()

    async def _list_tools(self, session: ClientSession) -> None:
        self.listing = await list_all(session, "tools/list", self._open_timeout_s)
        sdk.remember_header_parameters(session, self.listing.items)
        self._on_listing(self)

    async def _list_all_offered(self, session: ClientSession) -> None:
        """What is offered besides tools: nobody waits long for it, and a failure of it is no failure to connect."""
        missing = {kind for kind in _LIST_METHODS if kind in self.capabilities}

        async def list_one(kind: Kind) -> None:
            await self._list_again(session, kind, told=False)
            missing.discard(kind)

        with anyio.move_on_after(OFFERED_WAIT_S):
            async with anyio.create_task_group() as tasks:
                for kind in tuple(missing):
                    tasks.start_soon(list_one, kind)
        for kind in missing:
            self._note_change(kind, told=False)

    async def _list_offered(self, session: ClientSession, kind: Kind, *, told: bool) -> None:
        items: list[Json] = []
        for method in _LIST_METHODS[kind]:
            items.extend((await list_all(session, method, self._open_timeout_s)).items)
        self._on_news(Offered(kind, tuple(items), told))

    async def _serve(self, client: Client) -> None:
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(self._follow_changes, client.session)
            self._begin_to_watch(client, watchers)
            await self.link.over.wait()
            self._watch = None
            watchers.cancel_scope.cancel()
        await self.link.last_answers()

    def _begin_to_watch(self, client: Client, watchers: TaskGroup) -> None:
        """Open what tells of changes."""
        told = {kind for kind in Kind if _declares(self.capabilities, kind, "listChanged")}
        if self.is_modern and told:
            watchers.start_soon(self._listen, client, frozenset(told))
        self._watch = ResourceWatch(client, self.link.name, watchers, self._open_timeout_s, self._missed)
        if self._watched:
            watchers.start_soon(self._watch.resume, self._watched)

    def _missed(self, uri: str) -> None:
        self._on_news(Updated(uri))

    async def _notified(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, Exception):
            log.debug("%s: its transport reported %r", self.link.name, message)
        elif (kind := _CHANGES.get(type(message))) is not None:
            self._note_change(kind, told=True)
        elif isinstance(message, types.ResourceUpdatedNotification):
            self._on_news(Updated(message.params.uri))
        elif isinstance(message, types.LoggingMessageNotification):
            self._say(message.params.model_dump(by_alias=True, mode="json", exclude_unset=True))
        elif isinstance(message, types.ElicitCompleteNotification):
            self._on_news(Elicited(message.params.model_dump(by_alias=True, mode="json", exclude_unset=True)))

    def _say(self, params: Json) -> None:
        """Tell a log message to whom it belongs; where that cannot be told, to the only request under way.

        Others share this connection: what may belong to a request that takes no messages is not for one that does.
        """
        asked = sdk.asked()
        if asked is None and len(self._heard) > 1:
            log.debug("%s: a log message could belong to any of %d requests", self.link.name, len(self._heard))
            return
        if asked is None and not self._heard:
            self._on_news(Said(params))
            return
        asked = asked or self._heard[0]
        if asked.on_message is not None:
            asked.on_message(params)

    def _note_change(self, kind: Kind, *, told: bool) -> None:
        self._changes[kind] = told or self._changes.get(kind, False)
        self._bursts.note()

    async def _follow_changes(self, session: ClientSession) -> None:
        """List again after each burst of changes."""
        while True:
            await self._bursts.over()
            changes, self._changes = self._changes, {}
            for kind, told in changes.items():
                await self._list_again(session, kind, told=told)

    async def _list_again(self, session: ClientSession, kind: Kind, *, told: bool) -> None:
        try:
            if kind is Kind.TOOLS:
                await self._list_tools(session)
            else:
                await self._list_offered(session, kind, told=told)
        except (MCPError, DownstreamError) as error:
            log.warning("%s: its %s could not be listed: %s", self.link.name, kind, sentence(error))

    async def _listen(self, client: Client, kinds: frozenset[Kind]) -> None:
        """Keep a subscription to changes of the lists open. While there was none, anything may have changed."""
        pause_s = RELISTEN_FIRST_S
        while True:
            try:
                async with client.listen(
                    tools_list_changed=Kind.TOOLS in kinds,
                    prompts_list_changed=Kind.PROMPTS in kinds,
                    resources_list_changed=Kind.RESOURCES in kinds,
                ) as subscription:
                    pause_s = RELISTEN_FIRST_S
                    async for _ in subscription:
                        pass  # the session hands each event to `_notified` as well
            except MCPError as error:
                if not sdk.made_up(error):
                    log.info("%s: it refuses to tell of its changes: %s", self.link.name, error.message)
                    return
            except (SubscriptionLost, TimeoutError):
                log.debug("%s: the subscription to its changes was lost", self.link.name)
            await anyio.sleep(_random.uniform(pause_s / 2, pause_s))
            pause_s = min(RELISTEN_LONGEST_S, pause_s * 2)
            for kind in kinds:
                self._note_change(kind, told=False)


def _declares(capabilities: Mapping[str, Any], kind: Kind, flag: str) -> bool:
    declared = capabilities.get(kind)
    return isinstance(declared, dict) and declared.get(flag) is True


def sentence(error: BaseException) -> str:
    """What an error, or the first in a group of errors, says in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__
