"""Who waits for which call. A waiter costs something only while a client really waits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call

PROGRESSING = frozenset({State.QUEUED, State.RUNNING})
"""States in which waiting makes sense: the call moves on by itself."""


class Waiters:
    """Futures by call id, resolved with the call once its state is worth answering with."""

    def __init__(self) -> None:
        self._futures: dict[str, set[asyncio.Future[Call]]] = {}

    def notify(self, call: Call) -> None:
        """Wake everybody who waits for `call`, unless it is still progressing. Call it after the commit."""
        if call.state in PROGRESSING:
            return
        for future in self._futures.pop(call.id, ()):
            if not future.done():
                future.set_result(call)

    def waited_for(self, call_id: str) -> bool:
        """Whether anybody waits for the call."""
        return call_id in self._futures

    @contextmanager
    def expect(self, call_id: str) -> Iterator[asyncio.Future[Call]]:
        """A future for the next state of `call_id` worth answering with; forgotten when the block ends."""
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(call_id, set()).add(future)
        try:
            yield future
        finally:
            waiting = self._futures.get(call_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._futures[call_id]
