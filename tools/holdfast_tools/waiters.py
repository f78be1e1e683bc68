"""Who waits for which call. A waiter costs something only while a client really waits."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json
from holdfast_tools.client import Listener
from holdfast_tools.rounds import asks_nothing
from holdfast_tools.sdk import OnMessage, OnProgress

PROGRESSING = frozenset({State.QUEUED, State.RUNNING})
"""States in which waiting makes sense: the call moves on by itself."""


class Waiters:
    """Futures by call id, resolved with the call once its state is worth answering with; and who listens meanwhile."""

    def __init__(self) -> None:
        self._hearing: dict[str, list[Listener]] = {}
        self._futures: dict[str, set[asyncio.Future[Call]]] = {}
        self._taking_tasks: set[asyncio.Future[Call]] = set()
        self._coming_again: set[asyncio.Future[Call]] = set()
        self._listeners: list[Callable[[Call], None]] = []

    def subscribe(self, listener: Callable[[Call], None]) -> None:
        """Have `listener` called with every call that moved, progressing or not. It must not raise."""
        self._listeners.append(listener)

    def notify(self, call: Call) -> None:
        """Tell of `call`, and wake everybody who waits for it unless it still progresses. Call it after the commit."""
        for listener in self._listeners:
            listener(call)
        woken = self._futures.get(call.id, set())
        if asks_nothing(call):
            woken = woken & self._coming_again
        elif call.state in PROGRESSING:
            woken = woken & self._taking_tasks if call.remote_task is not None else set()
        for future in woken:
            if not future.done():
                future.set_result(call)

    def waited_for(self, call_id: str) -> bool:
        """Whether anybody waits for the call."""
        return call_id in self._futures

    def come_again(self, call_id: str) -> bool:
        """Whether one of those who wait was told that its downstream wants the call again, and makes it by itself."""
        told = self._coming_again & self._futures.get(call_id, set())
        return any(future.done() and not future.cancelled() and asks_nothing(future.result()) for future in told)

    def progress_of(self, call_id: str) -> OnProgress:
        """Tells whoever listens to the call at the time of its downstream's progress."""

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            for listener in self._hearing.get(call_id, ()):
                listener.progress(progress, total, message)

        return tell

    def messages_of(self, call_id: str) -> OnMessage:
        """Tells whoever listens to the call at the time what its downstream has to say."""

        def tell(params: Json) -> None:
            for listener in self._hearing.get(call_id, ()):
                listener.message(params)

        return tell

    @contextmanager
    def expect(
        self,
        call_id: str,
        listener: Listener | None = None,
        *,
        takes_task: bool = False,
        comes_again: bool = False,
    ) -> Iterator[asyncio.Future[Call]]:
        """A future for the next state of `call_id` worth answering with; forgotten when the block ends.

        Until then `listener` hears what the downstream tells. Who `takes_task` is also answered as soon as the
        downstream has made a task of the call. Who `comes_again` is also answered when the downstream only wants to
        get the call again, and makes it again; for all others it goes on by itself.
        """
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(call_id, set()).add(future)
        if takes_task:
            self._taking_tasks.add(future)
        if comes_again:
            self._coming_again.add(future)
        try:
            with self.hearing(call_id, listener):
                yield future
        finally:
            self._taking_tasks.discard(future)
            self._coming_again.discard(future)
            waiting = self._futures[call_id]
            waiting.discard(future)
            if not waiting:
                del self._futures[call_id]

    @contextmanager
    def hearing(self, call_id: str, listener: Listener | None) -> Iterator[None]:
        """Let `listener` hear what the downstream tells of the call, once even where such blocks are nested."""
        listeners = self._hearing.setdefault(call_id, []) if listener is not None else []
        if listener is None or listener in listeners:
            yield
            return
        listeners.append(listener)
        listener.follow(call_id)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners:
                self._hearing.pop(call_id, None)
