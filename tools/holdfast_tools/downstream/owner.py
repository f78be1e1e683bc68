"""A downstream with its one supervised connection: kept alive, rebuilt, and called.

Only the task of `Downstream.run` starts and ends connections. Whoever calls awaits a future that always resolves:
not sent, sent and lost, or answered.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from secrets import SystemRandom
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION

from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools import sdk
from holdfast_tools.downstream.answers import attempt_of_error, finite, unanswered
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.connection import Connection, sentence
from holdfast_tools.downstream.http import HttpLink
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.downstream.stdio import StdioLink

log = logging.getLogger("holdfast.downstream")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
RECENT_LOSS_S = 10.0
"""For so long after a loss, tries that fail are taken for a restart in progress: callers wait rather than fail."""
SHOWN_STDERR_LINES = 5
_STOPPED = "Holdfast stopped before the answer came"

State = Literal["starting", "connected", "failed", "backoff", "stopped"]

_random = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamStatus:
    """How a downstream is. `since` is in seconds since the epoch; `attempts` counts tries since it was last connected.

    `starting`: the first connection is being made. `failed`: the last try to connect failed; more follow. `backoff`:
    it was connected, and is about to be again. `reason` says what went wrong last, where something did.
    """

    state: State
    since: float
    protocol_version: str | None = None
    server_name: str | None = None
    attempts: int = 0
    reason: str | None = None
    stderr_tail: tuple[str, ...] = ()
    pid: int | None = None


class Dispatch:
    """One attempt under way. `outcome` always resolves; wait for it with `asyncio.wait`, which does not cancel it."""

    def __init__(self, downstream: str) -> None:
        self.outcome: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._downstream = downstream
        self._exchange = Exchange()
        self._scope = anyio.CancelScope()

    @property
    def sent(self) -> bool:
        """Whether the request was written, or is about to be: set immediately before."""
        return self._exchange.sent

    def abandon(self) -> None:
        """Stop waiting. What was not sent by now never is.

        The downstream of a read that was sent is told to stop as well; that of a write never is.
        """
        self._exchange.withdrawn = True
        self.conclude_unanswered("nobody waits for it any more")
        self._scope.cancel()

    def conclude(self, attempt: Attempt) -> None:
        """Resolve the outcome; the first one stands."""
        if not self.outcome.done():
            self.outcome.set_result(attempt)

    def conclude_unanswered(self, reason: str) -> None:
        """No answer will come: what counts is whether anything was sent."""
        self.conclude(unanswered(self._downstream, reason, self._exchange))


class Downstream:
    """The supervised owner of one downstream's connection.

    `run` in a task of its own keeps it connected; everything else may be called from any task of the same loop.
    `on_catalog` is called with the first listing of each connection and with every changed one.
    """

    def __init__(
        self,
        spec: DownstreamSpec,
        on_catalog: Callable[[CatalogRecord], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spec = spec
        self.status = DownstreamStatus(state="starting", since=clock())
        self._on_catalog = on_catalog
        self._clock = clock
        self._connection: Connection | None = None
        self._lost_at: float | None = None
        self._under_way: set[Dispatch] = set()
        self._tasks: TaskGroup | None = None
        self._settled = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Connect, serve and rebuild until cancelled. However it ends, every dispatch is concluded."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                await self._supervise(tasks)
        finally:
            self._connection = None
            for dispatch in tuple(self._under_way):
                dispatch.conclude_unanswered(_STOPPED)
            self._move("stopped", pid=None)
            self._settled.set()

    async def settled(self, timeout_s: float) -> bool:
        """Wait until the first try to connect is over, whichever way; False where `timeout_s` was not enough."""
        with anyio.move_on_after(timeout_s):
            await self._settled.wait()
        return self._settled.is_set()

    async def connected(self, timeout_s: float) -> bool:
        """Whether calls can be sent. Waits while a connection is being made, at most `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while not self._usable and self.status.state in ("starting", "connected", "backoff"):
                await self._moved.wait()
        return self._usable

    def dispatch(
        self,
        name: str,
        arguments: Json,
        *,
        meta: Json,
        on_progress: sdk.OnProgress | None = None,
        read_only: bool,
    ) -> Dispatch:
        """Call the tool of this original name, and return at once.

        `meta` is the request's `_meta`. A read that is abandoned is cancelled at the downstream; a write is not, and
        its answer is waited for as long as the connection lives.
        """
        dispatch = Dispatch(self.spec.name)
        connection = self._connection
        if connection is None or self._tasks is None or not connection.usable:
            dispatch.conclude(NotSent(self._unavailable()))
            return dispatch
        self._under_way.add(dispatch)
        self._tasks.start_soon(self._perform, dispatch, connection, name, arguments, meta, on_progress, read_only)
        return dispatch

    # --- one attempt ------------------------------------------------------------------------------------------

    async def _perform(
        self,
        dispatch: Dispatch,
        connection: Connection,
        name: str,
        arguments: Json,
        meta: Json,
        on_progress: sdk.OnProgress | None,
        read_only: bool,
    ) -> None:
        exchange, link = dispatch._exchange, connection.link
        attempt: Attempt | None = None
        try:
            with dispatch._scope:
                result = await connection.call(
                    name, arguments, exchange, meta=meta, on_progress=on_progress, cancel_on_abandon=read_only
                )
                connection.answered = True
                attempt = Answered(result=finite(result))
        except MCPError as error:
            modern = sdk.is_modern(connection.protocol_version)
            attempt = attempt_of_error(self.spec.name, error, exchange, self._why_over(link), modern=modern)
            if modern and error.code == HEADER_MISMATCH:
                connection.list_again()
            elif modern and error.code == UNSUPPORTED_PROTOCOL_VERSION and link.outlives_failure:
                link.fail("it does not speak the protocol version any more that it did")
        except Exception as error:
            log.exception("%s: the call of %s could not be sent or read", self.spec.name, name)
            attempt = unanswered(self.spec.name, sentence(error), exchange)
        finally:
            self._under_way.discard(dispatch)
            dispatch.conclude(attempt or unanswered(self.spec.name, _STOPPED, exchange))
        if isinstance(attempt, Lost) and link.outlives_failure:
            link.fail("an answer was lost")

    # --- supervision ------------------------------------------------------------------------------------------

    async def _supervise(self, tasks: TaskGroup) -> None:
        tries = 0
        while True:
            tries += 1
            connection = Connection(self._link(), self.spec.connect_timeout_s, self._listed)
            tasks.start_soon(connection.run)
            began = anyio.current_time()
            if await self._open(connection, tries):
                await self._serve(connection)
                if connection.answered or anyio.current_time() - began > LONGEST_PAUSE_S:
                    tries = 0
            await anyio.sleep(_random.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 16))))

    def _link(self) -> Link:
        transport = self.spec.transport
        if isinstance(transport, StdioSpec):
            return StdioLink(self.spec.name, transport)
        return HttpLink(self.spec.name, transport)

    async def _open(self, connection: Connection, tries: int) -> bool:
        """Wait until the connection is ready, or has failed and is no more."""
        with anyio.move_on_after(self.spec.connect_timeout_s):
            await connection.opened.wait()
        if not connection.ready:
            if not connection.opened.is_set():
                within = f"within {self.spec.connect_timeout_s:g} s"
                connection.stop(f"it did not complete its handshake and the listing of its tools {within}")
                self._report_failure(connection.link, tries)
            await connection.ended.wait()
            self._report_failure(connection.link, tries)
            return False
        self._connection = connection
        self._lost_at = None
        self._move(
            "connected",
            protocol_version=connection.protocol_version,
            server_name=connection.server_name,
            attempts=0,
            reason=None,
            stderr_tail=(),
            pid=connection.link.pid,
        )
        log.info("%s: connected (%s)", self.spec.name, connection.protocol_version)
        self._settled.set()
        return True

    async def _serve(self, connection: Connection) -> None:
        """Until the connection is over. A child is ended before another starts; an endpoint may still answer."""
        link = connection.link
        await link.over.wait()
        self._connection = None
        self._lost_at = anyio.current_time()
        self._move("backoff", reason=link.reason, stderr_tail=link.stderr_tail, pid=None)
        if not link.outlives_failure:
            await connection.ended.wait()
            self._move("backoff", reason=link.reason, stderr_tail=link.stderr_tail)
        log.warning("%s: the connection is over and will be rebuilt: %s", self.spec.name, link.reason)

    def _report_failure(self, link: Link, tries: int) -> None:
        """A try failed. Soon after a loss that is still part of coming back; else it is a failure."""
        recently = self._lost_at is not None and anyio.current_time() - self._lost_at < RECENT_LOSS_S
        news = link.reason != self.status.reason
        self._move(
            "backoff" if recently else "failed",
            attempts=tries,
            reason=link.reason,
            stderr_tail=link.stderr_tail,
            pid=None,
        )
        if news:
            log.warning("%s", self._unavailable())
        self._settled.set()

    def _listed(self, connection: Connection) -> None:
        record = CatalogRecord(
            downstream=self.spec.name,
            identity=self.spec.identity,
            protocol_version=connection.protocol_version,
            tools=connection.tools,
            seen_at=self._clock(),
            instructions=connection.instructions,
        )
        try:
            self._on_catalog(record)
        except Exception:
            log.exception("%s: its listing could not be taken in", self.spec.name)

    # --- what is told -----------------------------------------------------------------------------------------

    @property
    def _usable(self) -> bool:
        return self._connection is not None and self._connection.usable

    def _move(self, state: State, **changes: object) -> None:
        since = self.status.since if state == self.status.state else self._clock()
        self.status = replace(self.status, state=state, since=since, **changes)  # type: ignore[arg-type]
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _why_over(self, link: Link) -> str:
        return _with_stderr(f"the connection ended before the answer came: {link.reason}", link.stderr_tail)

    def _unavailable(self) -> str:
        """Why nothing can be sent now: the downstream, its state, the cause, and what the child said last."""
        status = self.status
        words = {
            "starting": "is still starting",
            "connected": "has just lost its connection",
            "failed": "could not be connected",
            "backoff": "lost its connection and is being connected again",
            "stopped": "is stopped",
        }
        cause = f": {status.reason}" if status.reason else ""
        return _with_stderr(f"the downstream {self.spec.name!r} {words[status.state]}{cause}", status.stderr_tail)


def _with_stderr(text: str, tail: tuple[str, ...]) -> str:
    if not tail:
        return text
    lines = "".join(f"\n  {line}" for line in tail[-SHOWN_STDERR_LINES:])
    return f"{text}; its last lines on stderr:{lines}"
