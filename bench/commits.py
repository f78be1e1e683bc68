"""The store's commits against raw SQLite: the same durability, the same disk, no store in between."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import anyio

from holdfast_store.contract import Accepted, Admit, Lease, Move, Moved, Store
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import NewCall, Outcome, OutcomeKind, new_id
from holdfast_store.open import open_store

CALLERS = 32


@dataclass(frozen=True, slots=True)
class CommitRates:
    """Per second. A call of the store is two commits: admitted and claimed, then settled."""

    raw_sqlite_commits_one_row: float
    raw_sqlite_rows_32_per_commit: float
    store_calls_one_caller: float
    store_calls_32_callers: float

    def as_json(self) -> dict[str, float]:
        return {name.replace("_", " "): round(rate, 1) for name, rate in asdict(self).items()}


async def measure_commits(folder: Path, calls: int) -> CommitRates:
    """Time `calls` calls of each kind on fresh files in `folder`."""
    store = await open_store(f"sqlite://{folder / 'commits.db'}")
    try:
        await _store_calls(store, calls // 10, 1)
        one = await _store_calls(store, calls // 4, 1)
        many = await _store_calls(store, calls, CALLERS)
    finally:
        await store.close()
    return CommitRates(
        raw_sqlite_commits_one_row=_raw(folder / "raw-1.db", calls // 4, 1),
        raw_sqlite_rows_32_per_commit=_raw(folder / "raw-32.db", calls, CALLERS),
        store_calls_one_caller=one,
        store_calls_32_callers=many,
    )


def _raw(path: Path, rows: int, batch: int) -> float:
    """Rows per second, `batch` to a commit, in WAL with a sync of every commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, state TEXT, arguments TEXT)")
        began = time.perf_counter()
        for start in range(0, rows, batch):
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(min(batch, rows - start)):
                connection.execute("INSERT INTO calls VALUES (?, 'running', ?)", (new_id(), '{"n": 1}'))
            connection.execute("COMMIT")
        return rows / (time.perf_counter() - began)
    finally:
        connection.close()


async def _store_calls(store: Store, calls: int, callers: int) -> float:
    numbers = iter(range(calls))
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(_caller, store, numbers)
    return calls / (time.perf_counter() - began)


_fingerprints = count()


async def _caller(store: Store, numbers: Iterator[int]) -> None:
    outcome = Outcome(OutcomeKind.RESULT, {"content": [{"type": "text", "text": "recorded"}]})
    for number in numbers:
        call = new_call(number)
        (admitted,) = await store.commit((Admit(call, Event.START, lease=Lease("bench", 30.0)),))
        if not isinstance(admitted, Accepted):
            raise TypeError(f"an admission was answered with {admitted!r}")
        (settled,) = await store.commit((Move(call.id, Event.SETTLE, "bench", fence=1, outcome=outcome),))
        if not isinstance(settled, Moved):
            raise TypeError(f"a settlement was answered with {settled!r}")


def new_call(number: int) -> NewCall:
    """An allowed write like none before it."""
    return NewCall(
        id=new_id(),
        tenant="default",
        principal="local",
        tool="bench__record",
        downstream="bench",
        original_name="record",
        identity="0" * 16,
        definition="0" * 64,
        arguments={"n": number, "customer": "c-1029", "tags": ["gold", "eu"]},
        fingerprint=f"{next(_fingerprints):064x}",
        run=new_id(),
        retry_safe=False,
        requesters=("local",),
    )
