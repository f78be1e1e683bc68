"""A session of the handshake era of its own for a client, or for a principal: what the server asks there is for them.

A server of that era asks its client back in the midst of a call: for input, for the client's model, for its roots. It
goes by what the client declared at the handshake, and names no call, unless it asks for a task. It may also go by that
in what it lists, so that its tools are listed here as well, whenever it says that they changed.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, METHOD_NOT_FOUND

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.bursts import Bursts
from holdfast_tools.downstream.connection import sentence
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.listing import Listing, list_all
from holdfast_tools.downstream.log_level import LogLevel
from holdfast_tools.downstream.news import ELICITED, Elicited, ListedFor, OnNews, no_news
from holdfast_tools.downstream.session import OnAsk

log = logging.getLogger("holdfast.downstream")

INTERACTIVE = ("elicitation", "sampling", "roots")
"""The capabilities that let a server ask back."""

RELATED_TASK = "io.modelcontextprotocol/related-task"
"""The `_meta` key by which a request says to which task it belongs (specification 2025-11-25, tasks)."""

ROOTS = "roots/list"

TOOLS_CHANGED = "notifications/tools/list_changed"

_ASKS = frozenset({"elicitation/create", "sampling/createMessage", ROOTS})


def asks_back(client: ClientProfile) -> Json:
    """What the client declared of the capabilities that let a server of the handshake era ask back."""
    return {name: client.capabilities[name] for name in INTERACTIVE if isinstance(client.capabilities.get(name), dict)}


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """A request under way: who hears of it, who answers for it, and which task's result it waits for."""

    on_message: sdk.OnMessage | None
    on_ask: OnAsk | None
    task: str | None


class InteractiveSession:
    """One connection whose handshake declared `capabilities`; a `Session`.

    Several requests may be under way where `capabilities` are none, or wait for tasks: what the server asks of a task
    goes to who waits for its result, all else to the one request that can be asked.
    """

    is_modern = False

    def __init__(
        self, link: Link, capabilities: Json, info: Json | None, open_timeout_s: float, on_news: OnNews = no_news
    ) -> None:
        self.link = link
        self.opened = asyncio.Event()
        self.answered = False
        self._capabilities = capabilities
        self._info = info
        self._open_timeout_s = open_timeout_s
        self._log_level = LogLevel(link.name, open_timeout_s)
        self._session: sdk.HandshakeSession | None = None
        self._scope = anyio.CancelScope()
        self._under_way: list[_UnderWay] = []
        self._on_news = on_news
        self._bursts = Bursts()
        self._want_listing: list[asyncio.Future[str | None]] = []
        self._knows_roots = False
        self._roots_changed = False

    @property
    def usable(self) -> bool:
        """Whether a new request may be sent."""
        return self._session is not None and self.opened.is_set() and not self.link.over.is_set()

    async def run(self) -> None:
        """Open, and serve until the link is over or `stop` is called. Never raises but for cancellation."""
        try:
            with self._scope:
                async with self.link as (incoming, outgoing):
                    session = sdk.HandshakeSession(incoming, outgoing, self._asked, self._told)
                    async with session:
                        await session.shake_hands(self._capabilities, self._info, self._open_timeout_s)
                        self._session = session
                        async with anyio.create_task_group() as watchers:
                            watchers.start_soon(self._follow_changes, session)
                            self.opened.set()
                            await self.link.over.wait()
                            watchers.cancel_scope.cancel()
                        await self.link.last_answers()
        except Exception as error:
            log.debug("%s: a leased session ended by an error", self.link.name, exc_info=True)
            self.link.fail(sentence(error))
        finally:
            self._session = None
            self.link.over.set()
            self.opened.set()
            self._conclude_listing(self.link.reason)

    def stop(self, reason: str) -> None:
        """End now, whatever is under way."""
        self.link.fail(reason)
        self._scope.cancel()

    def list_again(self) -> None:
        """What is listed does not concern a leased session."""

    def note_changed_roots(self) -> None:
        """Its client's roots are others now: the server is told with the next request here, if it ever asked.

        Told earlier it would ask while there is nobody to answer.
        """
        self._roots_changed = self._knows_roots

    async def tell_of_changed_roots(self) -> None:
        """Tell the server what was noted, in the midst of a request or at the beginning of one."""
        if self._roots_changed and self._session is not None:
            self._roots_changed = False
            await self._session.send_notification(types.RootsListChangedNotification())

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
        """Send one request; `on_ask` answers what the server asks meanwhile. Raises MCPError as `sdk.request` does."""
        session = self._session
        if session is None:
            raise MCPError(CONNECTION_CLOSED, "Connection closed")
        under_way = _UnderWay(on_message, on_ask, str(params.get("taskId")) if method == "tasks/result" else None)
        self._under_way.append(under_way)
        try:
            with self.link.exchanges.under_way(exchange) as mark:
                await self.tell_of_changed_roots()
                await self._log_level.lower(session, client.log_level if client is not None else None)
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
                )
        finally:
            self._under_way.remove(under_way)

    async def list_tools(self) -> None:
        """List the tools once the server has said for a while that none changed: they come as `ListedFor`.

        Raises DownstreamError where that fails.
        """
        await self.opened.wait()
        if not self.usable:
            raise DownstreamError(self.link.reason)
        listed: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._want_listing.append(listed)
        self._bursts.note()
        problem = await listed
        if problem is not None:
            raise DownstreamError(problem)

    async def _follow_changes(self, session: sdk.HandshakeSession) -> None:
        """List after each burst of changes; where nobody can be asked, the one connection does."""
        while self._capabilities:
            await self._bursts.over()
            problem = None
            try:
                listing = await list_all(session, "tools/list", self._open_timeout_s)
                self._tell_of(listing)
            except (MCPError, DownstreamError) as error:
                problem = sentence(error)
                log.warning("%s: its tools could not be listed: %s", self.link.name, problem)
            if problem is not None or not self._bursts.is_open:
                self._conclude_listing(problem)

    def _tell_of(self, listing: Listing) -> None:
        try:
            self._on_news(ListedFor(self._capabilities, listing.items))
        except Exception:
            log.exception("%s: its listing could not be taken in", self.link.name)

    def _conclude_listing(self, problem: str | None) -> None:
        wanted, self._want_listing = self._want_listing, []
        for listed in wanted:
            if not listed.done():
                listed.set_result(problem)

    async def _asked(self, method: str, params: Mapping[str, Any] | None) -> Json:
        if method == "ping":
            return {}
        on_ask = self._who_answers(_task_named_in(params)) if method in _ASKS else None
        if on_ask is None:
            raise MCPError(METHOD_NOT_FOUND, f"Method not found: {method}")
        self._knows_roots = self._knows_roots or method == ROOTS
        request: Json = {"method": method}
        if params is not None:
            request["params"] = _without_task(params)
        return await on_ask(request)

    def _who_answers(self, task: str | None) -> OnAsk | None:
        """Who waits for the result of that task; else the only one who can be asked at all."""
        able = [each for each in self._under_way if each.on_ask is not None]
        meant = [each for each in able if each.task == task] or able
        return meant[0].on_ask if len(meant) == 1 else None

    async def _told(self, method: str, params: Mapping[str, Any] | None) -> None:
        if method == TOOLS_CHANGED:
            self._bursts.note()
        if params is None:
            return
        if method == "notifications/message" and len(self._under_way) == 1:
            (only,) = self._under_way
            if only.on_message is not None:
                only.on_message(dict(params))
        elif method == ELICITED:
            self._on_news(Elicited(dict(params)))


def _task_named_in(params: Mapping[str, Any] | None) -> str | None:
    """The task to which a request of the server says that it belongs."""
    meta = (params or {}).get("_meta")
    related = meta.get(RELATED_TASK) if isinstance(meta, dict) else None
    task_id = related.get("taskId") if isinstance(related, dict) else None
    return task_id if isinstance(task_id, str) else None


def _without_task(params: Mapping[str, Any]) -> Json:
    """`params` without the name of the server's own task, which is nothing to whoever made the call."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or RELATED_TASK not in meta:
        return dict(params)
    return {**params, "_meta": {key: value for key, value in meta.items() if key != RELATED_TASK}}
