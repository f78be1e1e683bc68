"""Group commit: whatever is asked for while one transaction is under way shares the next.

A task lives only while there is something to commit. Order is that of asking, for `commit` and `commit_soon` alike.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from holdfast_store.contract import Write, WriteResult
from holdfast_store.model.errors import StoreError
from holdfast_store.sqlite.apply import CommitResult

SOON_S = 0.05
"""How long `commit_soon` may wait for company."""

LARGEST_BATCH = 512
"""Commits per transaction: enough to make the fsync cheap, few enough that the first is not kept waiting."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    writes: Sequence[Write]
    answer: asyncio.Future[list[WriteResult]] | None


class Committer:
    """Collects commits and hands them to `transact`, which applies a batch in one durable transaction."""

    def __init__(self, transact: Callable[[Sequence[Sequence[Write]]], Awaitable[list[CommitResult]]]) -> None:
        self._transact = transact
        self._asked: deque[_Asked] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def commit(self, writes: Sequence[Write]) -> list[WriteResult]:
        """The results, once they are durable. Cancelling drops the results, never the writes."""
        self._refuse_when_closed()
        answer: asyncio.Future[list[WriteResult]] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(writes, answer))
        self._start()
        return await answer

    def commit_soon(self, writes: Sequence[Write]) -> None:
        """With the next transaction, at the latest after `SOON_S`. A failure is logged."""
        self._refuse_when_closed()
        self._asked.append(_Asked(writes, None))
        if self._task is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_S, self._start)

    async def close(self) -> None:
        """Commit what was asked for; refuse what comes later."""
        self._closed = True
        if self._asked:
            self._start()
        while self._task is not None:
            await asyncio.wait([self._task])

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreError("The store is closed; open it again to write.")

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain(), name="holdfast-store-committer")

    async def _drain(self) -> None:
        batch: list[_Asked] = []
        try:
            while self._asked:
                batch = [self._asked.popleft() for _ in range(min(len(self._asked), LARGEST_BATCH))]
                results = await self._results([asked.writes for asked in batch])
                for asked, result in zip(batch, results, strict=True):
                    _settle(asked, result)
        finally:
            self._task = None
            for asked in (*batch, *self._asked):
                if asked.answer is not None:
                    asked.answer.cancel()

    async def _results(self, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
        try:
            return await self._transact(commits)
        except Exception as error:
            return [error] * len(commits)


def _settle(asked: _Asked, result: CommitResult) -> None:
    waiting = asked.answer is not None and not asked.answer.done()
    if isinstance(result, Exception):
        if waiting and asked.answer is not None:
            asked.answer.set_exception(_own(result))
        else:
            _log.error("a commit failed with nobody waiting for it: %s", result)
    elif waiting and asked.answer is not None:
        asked.answer.set_result(result)


def _own(error: Exception) -> Exception:
    """A copy for each waiter: one exception raised in many tasks would collect all their tracebacks."""
    if not isinstance(error, StoreError):
        return error
    own = StoreError(str(error), error.cause)
    own.__cause__ = error.__cause__
    return own
