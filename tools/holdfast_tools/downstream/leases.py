"""The sessions of a downstream that are leased: bounded, each for one principal, or for clients that declared the same.

A session that is interactive serves one call at a time, because what its server asks names no call. One in which
nothing can be asked serves any number. Who comes again gets the oldest free session of its kind, so that calls which
follow each other meet the same state: the same browser, the same working directory.

A write whose outcome nobody waits for any more keeps its session, for its answer may still come; but where all places
are taken, such a session is ended for the sake of a call that needs one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.interactive import InteractiveSession
from holdfast_tools.downstream.session import Session

IDLE_S = 1800.0
"""How long a session is kept that nobody leases, where nobody needs its place."""

_LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session must be like: whose (`holder`), and for a client that declared what, under which name.

    `capabilities` are those that let the server ask back. What a client declares is part of a handshake, and so of a
    session, only before 2026-07-28.
    """

    holder: str
    capabilities: Json = field(default_factory=dict)
    info: Json | None = None

    @property
    def is_interactive(self) -> bool:
        """Whether the server may ask back there."""
        return bool(self.capabilities)

    @property
    def kind(self) -> str:
        """The same for whoever may use the same session."""
        return json.dumps([self.holder, self.capabilities, self.info], sort_keys=True)


@dataclass(slots=True, eq=False)
class _Place:
    """A session, the requests that lease it now (calls as their dispatch), and the server's tasks that live in it."""

    wanted: Wanted
    session: Session
    users: list[Dispatch | None] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)
    idle_since: float = field(default_factory=anyio.current_time)

    @property
    def is_over(self) -> bool:
        return self.session.opened.is_set() and not self.session.usable

    @property
    def is_idle(self) -> bool:
        return not self.users and not self.tasks

    @property
    def is_given_up(self) -> bool:
        """Whether nobody counts on anything that may still come from it."""
        return not self.tasks and all(user is not None and user.lost for user in self.users)

    def serves(self, wanted: Wanted) -> bool:
        return self.wanted.kind == wanted.kind and not (self.users and wanted.is_interactive)


class Leases:
    """The leased sessions of the downstream `name`, `most` at once; `new` makes one that was not run yet."""

    def __init__(self, name: str, new: Callable[[Wanted], Session], open_timeout_s: float, most: int) -> None:
        self._name = name
        self._new = new
        self._open_timeout_s = open_timeout_s
        self._most = most
        self._places: list[_Place] = []
        self._changed = asyncio.Event()
        self._closed = False

    @asynccontextmanager
    async def leased(
        self, tasks: TaskGroup, wanted: Wanted, dispatch: Dispatch | None = None
    ) -> AsyncIterator[Session]:
        """A session for one request, which is that of `dispatch`, if any. Waits while all are taken, and tells it so.

        Raises DownstreamError where none can be opened.
        """
        place = self._take(tasks, wanted)
        while place is None:
            if dispatch is not None:
                taken = f"all {self._most} sessions of the downstream {self._name!r} are taken"
                dispatch.hold_up(f"{taken} (`max_sessions`)")
            await self._changed.wait()
            place = self._take(tasks, wanted)
        place.users.append(dispatch)
        try:
            await self._until_open(place.session)
            yield place.session
        finally:
            place.users.remove(dispatch)
            place.idle_since = anyio.current_time()
            self.note_change()

    async def tend(self) -> None:
        """End, now and then, what nobody has used for `IDLE_S`; until cancelled. Then no session begins any more."""
        try:
            while True:
                await anyio.sleep(_LOOK_S)
                self.end_idle(IDLE_S)
        finally:
            self._closed = True
            self.note_change()

    def end_idle(self, idle_s: float) -> None:
        """End the sessions that nobody has leased for so long."""
        oldest = anyio.current_time() - idle_s
        for place in tuple(self._places):
            if place.is_over or (place.is_idle and place.idle_since <= oldest):
                self._end(place, "nobody needed it")

    def keep(self, task_id: str, session: Session) -> None:
        """The server made a task in this session: it is not ended for being idle, and `home` answers it."""
        for place in self._places:
            if place.session is session:
                place.tasks.add(task_id)

    def home(self, task_id: str) -> Session | None:
        """The session in which the server made the task, where it is still there."""
        homes = (place.session for place in self._places if task_id in place.tasks and place.session.usable)
        return next(homes, None)

    def let_go(self, task_id: str) -> None:
        """Nobody asks for this task any more."""
        for place in self._places:
            place.tasks.discard(task_id)
        self.note_change()

    async def roots_changed(self, wanted: Wanted) -> None:
        """The roots of a client are others now: the servers of its sessions that asked for them hear of it."""
        for place in tuple(self._places):
            if place.wanted.kind == wanted.kind and isinstance(place.session, InteractiveSession):
                place.session.note_changed_roots()
                if place.users:
                    await place.session.tell_of_changed_roots()

    def _take(self, tasks: TaskGroup, wanted: Wanted) -> _Place | None:
        """A place that serves, else a new one; None while there is no room. Raises DownstreamError once closed."""
        if self._closed:
            raise DownstreamError(f"the downstream {self._name!r} was stopped before a session was free")
        for place in tuple(self._places):
            if place.is_over:
                self._end(place, "it is over")
        for place in self._places:
            if place.serves(wanted):
                return place
        if len(self._places) >= self._most:
            place_to_end = self._dispensable()
            if place_to_end is None:
                return None
            self._end(place_to_end, "another session was needed")
        place = _Place(wanted, self._new(wanted))
        self._places.append(place)
        tasks.start_soon(self._run, place.session)
        return place

    def _dispensable(self) -> _Place | None:
        """The place to end where another is needed: one that is idle for long, else one that was given up long ago."""
        given_up = [place for place in self._places if place.is_given_up]
        return min(given_up, key=lambda place: (not place.is_idle, place.idle_since), default=None)

    async def _run(self, session: Session) -> None:
        await session.run()
        self.note_change()

    def _end(self, place: _Place, reason: str) -> None:
        self._places.remove(place)
        place.session.stop(reason)

    async def _until_open(self, session: Session) -> None:
        with anyio.move_on_after(self._open_timeout_s):
            await session.opened.wait()
        if not session.usable:
            session.stop(f"it did not complete its handshake within {self._open_timeout_s:g} s")
            raise DownstreamError(f"{self._name}: a session for this call could not be opened: {session.link.reason}")

    def note_change(self) -> None:
        """Have those who wait look again: a session may be free, or dispensable."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
