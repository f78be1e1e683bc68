"""A downstream: its one supervised connection, the sessions leased beside it, and what is sent to either.

Whoever calls awaits a future that always resolves: not sent, sent and lost, or answered.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
from anyio.abc import TaskGroup
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, REQUEST_TIMEOUT, UNSUPPORTED_PROTOCOL_VERSION

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools import sdk
from holdfast_tools.client import SILENT, ClientProfile
from holdfast_tools.downstream.answers import attempt_of_error, created_task, declares, finite, unanswered
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.connection import Connection, sentence
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.gate import Gate, GateTerms
from holdfast_tools.downstream.interactive import InteractiveSession, asks_back
from holdfast_tools.downstream.leased_request import LeasedRequest
from holdfast_tools.downstream.leases import Leases, Wanted
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.listing_by_kind import ListingByKind
from holdfast_tools.downstream.news import OnNews, no_news
from holdfast_tools.downstream.session import OnAsk, Session
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.downstream.status import DownstreamStatus, with_stderr
from holdfast_tools.downstream.supervisor import Supervisor
from holdfast_tools.settings import READ_TIMEOUT_S

log = logging.getLogger("holdfast.downstream")

CONNECT_WAIT_S = 5.0
"""How long a request waits for a connection that is being made."""
SENDS = 2
"""How often a request may be sent that changes nothing, where the first time nothing was written."""
CORE_TASKS_VERSION = "2025-11-25"
"""The only protocol version whose servers make tasks of calls that ask for it."""
_STOPPED = "Holdfast stopped before the answer came"


class Downstream:
    """The supervised owner of one downstream's connection.

    `run` in a task of its own keeps it connected; everything else may be called from any task of the same loop.
    Whoever dispatches calls holds a place of its `gate`.
    `on_catalog` is called with the first listing of tools of each connection and with every changed one, `on_news`
    with all else that the downstream tells by itself.
    """

    def __init__(
        self,
        spec: DownstreamSpec,
        on_catalog: Callable[[CatalogRecord], None],
        on_news: OnNews = no_news,
        *,
        clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.gate = Gate(spec.name, GateTerms(spec.max_concurrency, spec.max_queue), monotonic_clock, clock)
        self._on_catalog = on_catalog
        self._on_news = on_news
        self._watched: set[str] = set()
        self._clock = clock
        self._supervisor = Supervisor(spec, self._listed, on_news, self._watched, clock)
        self._under_way: set[Dispatch] = set()
        self._leases = Leases(spec.name, self._new_session, spec.connect_timeout_s, spec.max_sessions)
        self._listings = ListingByKind(spec.name, self._new_session, self._can_be_asked, spec.connect_timeout_s)
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Connect, serve and rebuild until cancelled. However it ends, every dispatch is concluded."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._leases.tend)
                await self._supervisor.keep(tasks)
        finally:
            for dispatch in tuple(self._under_way):
                dispatch.conclude_unanswered(_STOPPED)
            self._supervisor.stop()

    @property
    def status(self) -> DownstreamStatus:
        """How its connection is."""
        return self._supervisor.status

    async def settled(self, timeout_s: float) -> bool:
        """Whether the first try to connect is over, whichever way; waited for until `timeout_s` after it began."""
        return await self._supervisor.settled(timeout_s)

    async def connected(self, timeout_s: float) -> bool:
        """Whether calls can be sent. Waits while a connection is being made, at most `timeout_s`."""
        return await self._supervisor.connected(timeout_s)

    @property
    def is_quiet(self) -> bool:
        """Whether every dispatch is concluded: no answer is awaited, not even one of a call that is in doubt."""
        return all(dispatch.outcome.done() for dispatch in self._under_way)

    async def quiet(self) -> None:
        """Wait until every dispatch is concluded."""
        while waiting := [dispatch.outcome for dispatch in self._under_way if not dispatch.outcome.done()]:
            await asyncio.wait(waiting)

    def succeed(self, predecessor: "Downstream") -> None:
        """Take the place of `predecessor`: hear of the resources that it was to hear of."""
        self._watched |= predecessor._watched

    def dispatch(
        self,
        name: str,
        arguments: Json,
        *,
        meta: Json,
        client: ClientProfile = SILENT,
        members: Mapping[str, object] | None = None,
        on_progress: sdk.OnProgress | None = None,
        on_message: sdk.OnMessage | None = None,
        on_ask: OnAsk | None = None,
        holder: str = "",
        read_only: bool,
    ) -> Dispatch:
        """Call the tool of this original name on behalf of `client`, and return at once.

        `meta` is the request's `_meta`, `members` what its params hold besides name and arguments. A read that is
        abandoned is cancelled at the downstream; a write is not, and its answer is waited for as long as the session
        lives. Where the downstream `asks_within` calls of this client, the call gets a session to itself, and `on_ask`
        answers what the downstream asks there. No such session, and with `isolation: principal` none at all, is shared
        with another `holder`; where all that there may be are taken, the call waits, or gets the place of one in which
        only answers are outstanding that nobody counts on.
        """
        dispatch = Dispatch(self.spec.name, self._leases.note_change)
        connection = self._supervisor.connection
        if connection is None or self._tasks is None or not connection.usable:
            dispatch.conclude(NotSent(self._supervisor.why_not))
            return dispatch
        self._under_way.add(dispatch)
        params = {"name": name, "arguments": arguments, **(members or {})}
        wanted = self._wanted(connection, client, holder, on_ask)
        session: AbstractAsyncContextManager[Session] = nullcontext(connection)
        if wanted is not None:
            session = self._leases.leased(self._tasks, wanted, dispatch)

        async def send(session: Session) -> Answered:
            result = await session.request(
                "tools/call",
                params,
                dispatch.exchange,
                client=client,
                meta=meta,
                on_progress=on_progress,
                on_message=on_message,
                on_ask=on_ask,
                cancel_on_abandon=read_only,
            )
            answered = Answered(result=finite(result), core_task="task" in params and "task" in result)
            task_id = created_task(answered)
            if task_id is not None:
                self._leases.keep(task_id, session)
            return answered

        self._tasks.start_soon(self._perform, dispatch, session, name, send)
        return dispatch

    def asks_within(self, client: ClientProfile) -> bool:
        """Whether the downstream may ask this client back in the midst of a call, as the handshake era does."""
        connection = self._supervisor.connection
        return connection is not None and not connection.is_modern and bool(asks_back(client))

    def list_for(self, client: ClientProfile) -> asyncio.Event:
        """List the tools as clients see them that declare what `client` does; they come as `ListedFor` news.

        The event is set once that is over, whichever way. Only a server of the handshake era is asked, once connected.
        """
        if self._tasks is None or self.status.state == "stopped":
            over = asyncio.Event()
            over.set()
            return over
        return self._listings.begin(self._tasks, Wanted("", asks_back(client), client.info))

    async def _can_be_asked(self) -> bool:
        """Whether it is connected and of the handshake era. Waits while a connection is being made."""
        connected = await self.connected(self.spec.connect_timeout_s)
        return connected and self._supervisor.connection is not None and not self._supervisor.connection.is_modern

    @property
    def makes_core_tasks(self) -> bool:
        """Whether calls can be made as tasks of 2025-11-25: the server declares `tasks.requests.tools.call`."""
        connection = self._supervisor.connection
        if connection is None or connection.protocol_version != CORE_TASKS_VERSION:
            return False
        return declares(connection.capabilities, "tasks", "requests", "tools", "call")

    def forget_task(self, task_id: str) -> None:
        """Nobody asks for this task of the downstream any more."""
        self._leases.let_go(task_id)

    @property
    def capabilities(self) -> Json | None:
        """What the downstream declared on its connection, as on the wire; None without one."""
        return self._supervisor.connection.capabilities if self._supervisor.connection is not None else None

    @property
    def tool_hints(self) -> Json:
        """The cache hints of its last listing of tools: none from a server of the handshake era."""
        return (self._supervisor.connection.listing.hints if self._supervisor.connection is not None else None) or {}

    async def request(
        self,
        method: str,
        params: Json,
        *,
        client: ClientProfile = SILENT,
        meta: Json | None = None,
        on_progress: sdk.OnProgress | None = None,
        on_message: sdk.OnMessage | None = None,
        on_ask: OnAsk | None = None,
        holder: str = "",
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Json:
        """Send a request that changes nothing on behalf of `client`, and return the raw result.

        Waits for a connection that is being made. What was not sent is tried once more. Cancelling the wait cancels
        the request at the downstream. `on_ask` and `holder` are as of `dispatch`; while `on_ask` answers, the time
        stands still. Raises MCPError with the downstream's own error, as it came, and DownstreamError where no answer
        came.
        """
        reason = ""
        for _ in range(SENDS):
            if not await self.connected(CONNECT_WAIT_S):
                break
            connection = self._supervisor.connection
            if connection is None or self._tasks is None:
                continue
            own = self._own_session(self._tasks, connection, method, params, client, holder, on_ask)
            if own is not None:
                leased = LeasedRequest(self.spec.name, own, client, timeout_s)
                return await leased.send(method, params, meta or {}, on_progress, on_message, on_ask)
            exchange = Exchange()
            try:
                result = await connection.request(
                    method,
                    params,
                    exchange,
                    client=client,
                    meta=meta or {},
                    on_progress=on_progress,
                    on_message=on_message,
                    timeout_s=timeout_s,
                )
                connection.answered = True
                return finite(result)  # type: ignore[no-any-return]
            except MCPError as error:
                attempt = self._attempt_of(connection, error, exchange)
                if error.code == REQUEST_TIMEOUT and "timed out" in error.message:
                    raise DownstreamError(
                        f"the downstream {self.spec.name!r} did not answer {method} within {timeout_s:g} s"
                    ) from error
                if isinstance(attempt, Answered):
                    raise
                reason = attempt.reason
                if isinstance(attempt, Lost):
                    if connection.link.outlives_failure:
                        connection.link.fail("an answer was lost")
                    break
        raise DownstreamError(reason or self._supervisor.why_not)

    async def watch(self, uri: str) -> None:
        """Hear of changes of this resource, through reconnections too: as `Updated` news.

        Raises MCPError where the downstream refuses, and DownstreamError where it cannot be asked.
        """
        if not await self.connected(CONNECT_WAIT_S) or self._supervisor.connection is None:
            raise DownstreamError(self._supervisor.why_not)
        try:
            await self._supervisor.connection.watch(uri)
        except (SubscriptionLost, TimeoutError) as error:
            raise DownstreamError(f"the downstream {self.spec.name!r} did not take a subscription: {error}") from error
        self._watched.add(uri)

    async def unwatch(self, uri: str) -> None:
        """Hear of them no more. A connection that is gone has forgotten by itself. Raises as `watch` does."""
        self._watched.discard(uri)
        if self._supervisor.connection is not None:
            try:
                await self._supervisor.connection.unwatch(uri)
            except (SubscriptionLost, TimeoutError) as error:
                raise DownstreamError(f"the downstream {self.spec.name!r} did not end a subscription") from error

    async def lower_log_level(self, level: str) -> None:
        """Have it send log messages from `level` on, where that is set per connection: before 2026-07-28."""
        if self._supervisor.connection is not None:
            await self._supervisor.connection.lower_log_level(level)

    async def roots_changed(self, client: ClientProfile, holder: str) -> None:
        """The roots of `client` are others now: its sessions here, should it have any, are told where they asked."""
        await self._leases.roots_changed(Wanted(holder, asks_back(client), client.info))

    # --- one attempt ------------------------------------------------------------------------------------------

    def _wanted(
        self, connection: Connection, client: ClientProfile, holder: str, on_ask: OnAsk | None
    ) -> Wanted | None:
        """The session that a request must have instead of the one connection, which others use as well."""
        keeps_state = isinstance(self.spec.transport, StdioSpec) or not connection.is_modern
        isolated = bool(holder) and self.spec.isolation == "principal" and keeps_state
        capabilities = {} if connection.is_modern or on_ask is None else asks_back(client)
        if capabilities:
            return Wanted(holder, capabilities, client.info)
        return Wanted(holder) if isolated else None

    def _own_session(
        self,
        tasks: TaskGroup,
        connection: Connection,
        method: str,
        params: Json,
        client: ClientProfile,
        holder: str,
        on_ask: OnAsk | None,
    ) -> AbstractAsyncContextManager[Session] | None:
        """The session of a request: where the task lives that it asks for; else as `_wanted` says."""
        home = self._leases.home(str(params.get("taskId"))) if method.startswith("tasks/") else None
        if home is not None:
            return nullcontext(home)
        wanted = self._wanted(connection, client, holder, on_ask)
        return None if wanted is None else self._leases.leased(tasks, wanted)

    def _new_session(self, wanted: Wanted) -> Session:
        """A session to be leased, of the era of the one connection."""
        link, patience_s = self._supervisor.new_link(), self.spec.connect_timeout_s
        if self._supervisor.connection is not None and self._supervisor.connection.is_modern:
            return Connection(link, patience_s, lambda _: None)
        return InteractiveSession(link, wanted.capabilities, wanted.info, patience_s, self._on_news)

    async def _perform(
        self,
        dispatch: Dispatch,
        leased: AbstractAsyncContextManager[Session],
        name: str,
        send: Callable[[Session], Awaitable[Answered]],
    ) -> None:
        attempt: Attempt | None = None
        try:
            with dispatch.scope:
                async with leased as session:
                    attempt = await self._attempt(dispatch, session, name, send)
        except DownstreamError as error:
            attempt = NotSent(str(error))
        finally:
            self._under_way.discard(dispatch)
            dispatch.conclude(attempt or unanswered(self.spec.name, _STOPPED, dispatch.exchange))

    async def _attempt(
        self, dispatch: Dispatch, session: Session, name: str, send: Callable[[Session], Awaitable[Answered]]
    ) -> Attempt:
        """What came of sending it in this session."""
        try:
            answered = await send(session)
            session.answered = True
            return answered
        except MCPError as error:
            attempt = self._attempt_of(session, error, dispatch.exchange)
        except Exception as error:
            log.exception("%s: the call of %s could not be sent or read", self.spec.name, name)
            attempt = unanswered(self.spec.name, sentence(error), dispatch.exchange)
        if isinstance(attempt, Lost) and session.link.outlives_failure:
            session.link.fail("an answer was lost")
        return attempt

    def _attempt_of(self, connection: Session, error: MCPError, exchange: Exchange) -> Attempt:
        link, modern = connection.link, connection.is_modern
        attempt = attempt_of_error(self.spec.name, error, exchange, self._why_over(link), modern=modern)
        if modern and error.code == HEADER_MISMATCH:
            connection.list_again()
        elif modern and error.code == UNSUPPORTED_PROTOCOL_VERSION and link.outlives_failure:
            link.fail("it does not speak the protocol version any more that it did")
        return attempt

    def _why_over(self, link: Link) -> str:
        return with_stderr(f"the connection ended before the answer came: {link.reason}", link.stderr_tail)

    def _listed(self, connection: Connection) -> None:
        record = CatalogRecord(
            downstream=self.spec.name,
            identity=self.spec.identity,
            protocol_version=connection.protocol_version,
            tools=connection.listing.items,
            seen_at=self._clock(),
            instructions=connection.instructions,
            capabilities=connection.capabilities,
        )
        try:
            self._on_catalog(record)
        except Exception:
            log.exception("%s: its listing could not be taken in", self.spec.name)
