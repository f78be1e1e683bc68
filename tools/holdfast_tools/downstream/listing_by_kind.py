"""The tools of a server of the handshake era as clients see them that can be asked.

Each kind of client, by what it declared, is listed once, in a session that serves nothing else: what the server asks
meanwhile is for nobody, and a session whose server was refused an answer is none for a client's calls.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from holdfast_store.model.errors import DownstreamError
from holdfast_tools.downstream.interactive import InteractiveSession
from holdfast_tools.downstream.leases import Wanted
from holdfast_tools.downstream.session import Session

log = logging.getLogger("holdfast.downstream")

RETRY_S = 60.0
"""For so long after a failure a kind is not tried again: each try may start a process."""


class ListingByKind:
    """Listings of the downstream `name`. `new` makes a session that was not run yet; one that lists tells the news.

    `reachable` waits until a session can be opened; False where none can.
    """

    def __init__(
        self, name: str, new: Callable[[Wanted], Session], reachable: Callable[[], Awaitable[bool]], timeout_s: float
    ) -> None:
        self._name = name
        self._new = new
        self._reachable = reachable
        self._timeout_s = timeout_s
        self._begun: dict[str, asyncio.Event] = {}
        self._not_before: dict[str, float] = {}

    def begin(self, tasks: TaskGroup, wanted: Wanted) -> asyncio.Event:
        """List for clients like `wanted`, unless that is under way or just failed; set once it is over."""
        kind = json.dumps(wanted.capabilities, sort_keys=True)
        over = self._begun.get(kind)
        if over is not None:
            return over
        over = asyncio.Event()
        if anyio.current_time() < self._not_before.get(kind, 0.0):
            over.set()
            return over
        self._begun[kind] = over
        tasks.start_soon(self._list, kind, wanted, over)
        return over

    async def _list(self, kind: str, wanted: Wanted, over: asyncio.Event) -> None:
        try:
            if not await self._reachable():
                return
            session = self._new(wanted)
            if not isinstance(session, InteractiveSession):
                return
            problem = await self._list_in(session)
            self._not_before.pop(kind, None)
            if problem is not None:
                self._not_before[kind] = anyio.current_time() + RETRY_S
                log.warning(
                    "%s: what it lists to clients that can be asked is not known (%s): %s", self._name, kind, problem
                )
        finally:
            del self._begun[kind]
            over.set()

    async def _list_in(self, session: InteractiveSession) -> str | None:
        """Why it could not be listed; None once it was."""
        problem = f"it did not list them within {self._timeout_s:g} s"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            try:
                with anyio.move_on_after(self._timeout_s):
                    await session.list_tools()
                    return None
            except DownstreamError as error:
                problem = str(error)
            finally:
                session.stop("its tools were listed")
        return problem
