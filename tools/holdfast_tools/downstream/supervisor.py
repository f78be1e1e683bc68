"""The one connection of a downstream: made, watched, and made again for as long as the downstream is wanted."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from secrets import SystemRandom

import anyio
from anyio.abc import TaskGroup

from holdfast_tools.downstream.connection import Connection
from holdfast_tools.downstream.http import HttpLink
from holdfast_tools.downstream.link import Link
from holdfast_tools.downstream.news import OnNews
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.downstream.status import DownstreamStatus, State, unavailable
from holdfast_tools.downstream.stdio import StdioLink

log = logging.getLogger("holdfast.downstream")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
RECENT_LOSS_S = 10.0
"""For so long after a loss, tries that fail are taken for a restart in progress: callers wait rather than fail."""

_random = SystemRandom()


class Supervisor:
    """Keeps one connection alive; only the task of `keep` starts and ends connections.

    `connection` is the one there is now, `status` says how it goes. `watched` are the resources to hear of on each new
    connection; `on_listing` and `on_news` are as of `Connection`.
    """

    def __init__(
        self,
        spec: DownstreamSpec,
        on_listing: Callable[[Connection], None],
        on_news: OnNews,
        watched: Iterable[str],
        clock: Callable[[], float],
    ) -> None:
        self.connection: Connection | None = None
        self.status = DownstreamStatus(state="starting", since=clock())
        self._spec = spec
        self._on_listing = on_listing
        self._on_news = on_news
        self._watched = watched
        self._clock = clock
        self._lost_at: float | None = None
        self._began: float | None = None
        self._settled = asyncio.Event()
        self._moved = asyncio.Event()

    async def keep(self, tasks: TaskGroup) -> None:
        """Connect, serve and rebuild, with pauses of full jitter, until cancelled."""
        self._began = anyio.current_time()
        tries = 0
        while True:
            tries += 1
            connection = Connection(
                self.new_link(), self._spec.connect_timeout_s, self._on_listing, self._on_news, self._watched
            )
            tasks.start_soon(connection.run)
            began = anyio.current_time()
            if await self._open(connection, tries):
                await self._serve(connection)
                if connection.answered or anyio.current_time() - began > LONGEST_PAUSE_S:
                    tries = 0
            await anyio.sleep(_random.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 16))))

    def stop(self) -> None:
        """There is no connection any more, and none will be made."""
        self.connection = None
        self._move("stopped", pid=None)
        self._settled.set()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent now."""
        return self.connection is not None and self.connection.usable

    @property
    def why_not(self) -> str:
        """Why nothing can be sent now."""
        return unavailable(self._spec.name, self.status)

    async def settled(self, timeout_s: float) -> bool:
        """Wait until the first try to connect is over, whichever way, at most until `timeout_s` after it began.

        However many wait one after the other, they wait no longer together. False where that was not enough.
        """
        began = anyio.current_time() if self._began is None else self._began
        with anyio.move_on_at(began + timeout_s):
            await self._settled.wait()
        return self._settled.is_set()

    async def connected(self, timeout_s: float) -> bool:
        """Whether a request can be sent. Waits while a connection is being made, at most `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while not self.usable and self.status.state in ("starting", "connected", "backoff"):
                await self._moved.wait()
        return self.usable

    def new_link(self) -> Link:
        """A transport to the downstream, not opened."""
        transport = self._spec.transport
        if isinstance(transport, StdioSpec):
            return StdioLink(self._spec.name, transport)
        return HttpLink(self._spec.name, transport)

    async def _open(self, connection: Connection, tries: int) -> bool:
        """Wait until the connection is ready, or has failed and is no more."""
        with anyio.move_on_after(self._spec.connect_timeout_s):
            await connection.opened.wait()
        if not connection.ready:
            if not connection.opened.is_set():
                within = f"within {self._spec.connect_timeout_s:g} s"
                connection.stop(f"it did not complete its handshake and the listing of its tools {within}")
                self._report_failure(connection.link, tries)
            await connection.ended.wait()
            self._report_failure(connection.link, tries)
            return False
        self.connection = connection
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
        log.info("%s: connected (%s)", self._spec.name, connection.protocol_version)
        self._settled.set()
        return True

    async def _serve(self, connection: Connection) -> None:
        """Until the connection is over. A child is ended before another starts; an endpoint may still answer."""
        link = connection.link
        await link.over.wait()
        self.connection = None
        self._lost_at = anyio.current_time()
        self._move("backoff", reason=link.reason, stderr_tail=link.stderr_tail, pid=None)
        if not link.outlives_failure:
            await connection.ended.wait()
            self._move("backoff", reason=link.reason, stderr_tail=link.stderr_tail)
        log.warning("%s: the connection is over and will be rebuilt: %s", self._spec.name, link.reason)

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
            log.warning("%s", self.why_not)
        self._settled.set()

    def _move(self, state: State, **changes: object) -> None:
        since = self.status.since if state == self.status.state else self._clock()
        self.status = replace(self.status, state=state, since=since, **changes)  # type: ignore[arg-type]
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
