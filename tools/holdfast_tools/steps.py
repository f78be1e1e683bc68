"""The steps of calls, written whatever it takes and told to whoever waits: what happened must not be forgotten."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from holdfast_store.contract import Move, Moved, Store, Write, WriteResult
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import Call, Outcome
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.runner")

ENGINE = "engine"
"""The actor of what Holdfast does by itself, in the journal."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class Steps:
    """Writes of the runner. None of its methods raises `StoreError`: the store is asked until it answers."""

    def __init__(self, store: Store, waiters: Waiters) -> None:
        self._store = store
        self._waiters = waiters

    async def take(self, write: Write) -> WriteResult:
        """Commit `write`, and tell of the call that it moved."""
        result = await self.commit(write)
        self.tell(result)
        return result

    async def end(
        self, call: Call, event: Event, outcome: Outcome, *, lost: bool = False, sent: bool = True
    ) -> WriteResult:
        """End `call` by what Holdfast itself decided."""
        return await self.take(Move(call.id, event, ENGINE, call.fence, outcome=outcome, lost=lost, sent=sent))

    async def commit(self, *writes: Write) -> WriteResult:
        """Commit `writes` together and tell nobody; answers for the first."""
        results = await self.insist(lambda: self._store.commit(writes))
        return results[0]

    def tell(self, result: WriteResult) -> None:
        """Tell of the call that a write moved, where it did."""
        if isinstance(result, Moved):
            self._waiters.notify(result.call)

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long its trouble lasts."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await ask()
            except StoreError as error:
                log.error("the store is in trouble and is asked again", extra={"error": str(error), "pause_s": pause_s})
            await anyio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
