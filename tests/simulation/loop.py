"""An event loop whose time is virtual and whose order is drawn from a seed, with processes that can be killed in it.

When nothing is ready, time jumps to the next timer. Each ready callback carries the context it was made in, and the
context says to which simulated process it belongs: to kill a process is to never run its callbacks again. No
`finally` of it runs, as none does in a real process that is killed.

Nothing here depends on addresses or string hashes: tasks, futures and cancel scopes are kept in the order in which
they were made, so that a seed gives the same run everywhere.
"""

import asyncio
import heapq
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

WORLD = 0
"""The process of what is never killed: clients, people, downstream servers."""

_PROCESS: ContextVar[int] = ContextVar("process", default=WORLD)


class Stalled(Exception):
    """Nothing is ready and no timer is set: whoever waits, waits forever."""


class _Numbered:
    """Hashes by order of making, so that sets of it iterate the same way in every run."""

    number: int

    def __hash__(self) -> int:
        return self.number


class _Task(_Numbered, asyncio.Task[Any]):
    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self.number = number
        super().__init__(coro, **options)

    __hash__ = _Numbered.__hash__


class _Future(_Numbered, asyncio.Future[Any]):
    def __init__(self, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(**options)

    __hash__ = _Numbered.__hash__


def _close(task: asyncio.Task[Any]) -> None:
    """End the task's coroutine. Whatever that raises is raised by code whose world is over."""
    coroutine = task.get_coro()
    with suppress(BaseException):
        if coroutine is not None:
            coroutine.close()


class VirtualLoop(asyncio.BaseEventLoop):
    """Time in virtual seconds. With `shuffled`, any ready callback may be next; else the oldest is, as in asyncio."""

    def __init__(self, random: Random, *, shuffled: bool) -> None:
        super().__init__()
        self.steps = 0
        self.before_step: Callable[[], None] | None = None
        self._random = random
        self._shuffled = shuffled
        self._now = 0.0
        self._made = 0
        self._dead: set[int] = set()
        self._tasks: list[_Task] = []
        self._over = False

    def time(self) -> float:
        return self._now

    def spawn(self, process: int, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task of `process`; all that it starts belongs to `process` as well."""
        context = copy_context()
        context.run(_PROCESS.set, process)
        return self.create_task(work, context=context)

    def kill(self, process: int) -> None:
        """Never run anything of `process` again."""
        self._dead.add(process)

    def is_dead(self, process: int) -> bool:
        return process in self._dead

    def dispose(self) -> None:
        """Throw away what never ended, without letting it do anything any more."""
        self._over = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was made and never begun
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task)
            self._tasks.clear()
        self.close()

    # --- what asyncio asks of a loop --------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        self._made += 1
        return _Future(self._made, loop=self)

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
        self._made += 1
        task = _Task(self._made, coro, loop=self, **options)
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        handle = self._next()
        self.steps += 1
        if self.before_step is not None:
            self.before_step()
        if not handle._cancelled and handle._context.get(_PROCESS, WORLD) not in self._dead:  # type: ignore[attr-defined]
            handle._run()

    def _next(self) -> asyncio.Handle:
        ready = self._ready  # type: ignore[attr-defined]
        while not ready:
            self._pass_time()
        if self._shuffled and len(ready) > 1:
            place = int(self._random.random() * len(ready))
            ready.rotate(-place)
            handle: asyncio.Handle = ready.popleft()
            ready.rotate(place)
            return handle
        oldest: asyncio.Handle = ready.popleft()
        return oldest

    def _pass_time(self) -> None:
        """Make ready what the next timer, and all others of that very moment, were set for."""
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and (timers[0]._cancelled or timers[0]._context.get(_PROCESS, WORLD) in self._dead):
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Stalled
        self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            self._ready.append(timer)  # type: ignore[attr-defined]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a killed process left behind is no news: its exceptions were for nobody."""

    def _write_to_self(self) -> None:
        """There is no other thread that could have to wake this loop."""
