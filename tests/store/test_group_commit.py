"""Concurrent commits share a transaction, and nobody's trouble is anybody else's."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from store_builders import LEASE, PAID, Clock, admitted, new_call, one, settled

from holdfast_store.contract import Accepted, Admit, Mark, Move, Moved, Note, Retention, Stale, Store, Write
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call
from holdfast_store.open import open_store, open_store_for_reading
from holdfast_store.sqlite.apply import CommitResult, apply_batch
from holdfast_store.sqlite.committer import LARGEST_BATCH, SOON_S, Committer
from holdfast_store.sqlite.connection import InlineConnection, connect_writer
from holdfast_store.sqlite.migrate import migrate
from holdfast_store.sqlite.store import SqliteStore


def admit(**fields: object) -> Admit:
    return Admit(new_call(**fields), Event.START, LEASE)


class HeldTransact:
    """Stands where the disk stands: lets one batch through per release, and remembers what was in it."""

    def __init__(self) -> None:
        self.batches: list[list[Sequence[Write]]] = []
        self.gate = asyncio.Semaphore(0)

    async def __call__(self, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
        self.batches.append(list(commits))
        await self.gate.acquire()
        return [[Stale(None)] * len(writes) for writes in commits]


async def turns(count: int = 5) -> None:
    """Let everything that can run, run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_asked_while_a_transaction_runs_shares_the_next() -> None:
    transact = HeldTransact()
    committer = Committer(transact)
    first = asyncio.ensure_future(committer.commit([admit()]))
    await turns()
    rest = [asyncio.ensure_future(committer.commit([admit()])) for _ in range(10)]
    await turns()
    assert [len(batch) for batch in transact.batches] == [1]
    transact.gate.release()
    transact.gate.release()
    await asyncio.wait_for(asyncio.gather(first, *rest), 5)
    assert [len(batch) for batch in transact.batches] == [1, 10]
    await committer.close()


async def test_a_batch_is_bounded() -> None:
    transact = HeldTransact()
    committer = Committer(transact)
    asked = [asyncio.ensure_future(committer.commit([admit()])) for _ in range(LARGEST_BATCH + 1)]
    for _ in range(2):
        transact.gate.release()
    await asyncio.wait_for(asyncio.gather(*asked), 5)
    assert [len(batch) for batch in transact.batches] == [LARGEST_BATCH, 1]
    await committer.close()


async def test_what_is_asked_for_soon_comes_before_every_later_commit() -> None:
    transact = HeldTransact()
    committer = Committer(transact)
    running = asyncio.ensure_future(committer.commit([Note("0", "n", "me")]))
    await turns()
    committer.commit_soon([Note("1", "n", "me")])
    later = asyncio.ensure_future(committer.commit([Note("2", "n", "me")]))
    await turns()
    committer.commit_soon([Note("3", "n", "me")])
    for _ in range(2):
        transact.gate.release()
    await asyncio.wait_for(asyncio.gather(running, later), 5)
    assert [[writes[0].call_id for writes in batch] for batch in transact.batches] == [["0"], ["1", "2", "3"]]
    await committer.close()


async def test_what_is_asked_for_soon_is_written_without_any_other_commit() -> None:
    transact = HeldTransact()
    committer = Committer(transact)
    transact.gate.release()
    committer.commit_soon([Note("1", "n", "me")])
    assert transact.batches == []
    async with asyncio.timeout(SOON_S * 100):
        while not transact.batches:
            await asyncio.sleep(SOON_S / 10)
    await committer.close()


async def test_closing_writes_what_was_asked_for_and_refuses_what_comes_later() -> None:
    transact = HeldTransact()
    committer = Committer(transact)
    committer.commit_soon([Note("1", "n", "me")])
    transact.gate.release()
    await asyncio.wait_for(committer.close(), 5)
    assert len(transact.batches) == 1
    with pytest.raises(StoreError, match="closed"):
        await committer.commit([admit()])
    with pytest.raises(StoreError, match="closed"):
        committer.commit_soon([admit()])


async def test_a_cancelled_caller_drops_the_result_never_the_write(store: Store) -> None:
    write = admit()
    caller = asyncio.ensure_future(store.commit([write]))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await one(store, Note(write.call.id, "after", "me"))
    call = await store.get_call(write.call.id)
    assert call is not None
    assert call.state is State.RUNNING


async def test_a_bad_write_fails_its_own_caller_and_takes_back_its_own_writes(store: Store) -> None:
    good, bad = [admit() for _ in range(3)], [admit(), admit(arguments={"x": float("inf")})]
    results = await asyncio.gather(
        store.commit([good[0]]),
        store.commit(bad),
        store.commit(good[1:]),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert [await store.get_call(write.call.id) for write in bad] == [None, None]
    assert [type(result) for result in (*results[0], *results[2])] == [Accepted] * 3
    for write in good:
        call = await store.get_call(write.call.id)
        assert call is not None
        assert len(await store.journal(call.id)) == 1


async def test_a_doubled_id_fails_its_own_caller_with_a_sentence(store: Store) -> None:
    taken = await admitted(store)
    other = admit()
    results = await asyncio.gather(store.commit([admit(id=taken.id)]), store.commit([other]), return_exceptions=True)
    assert isinstance(results[0], StoreError)
    assert "UNIQUE" in str(results[0])
    assert isinstance(results[1][0], Accepted)


async def test_a_failure_that_nobody_waits_for_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    call = await admitted(store)
    store.commit_soon([Note(call.id, "n", "me", {"x": float("nan")})])
    await one(store, Note(call.id, "after", "me"))
    assert [entry.event for entry in await store.journal(call.id)] == [Event.START, "after"]
    assert "nobody waiting" in caplog.text


async def test_a_mark_asked_for_soon_is_seen_by_the_next_commit(store: Store) -> None:
    call = await settled(store)
    store.commit_soon([Mark(call.id, delivered=True)])
    result = await one(store, Mark(call.id, handled=True))
    assert isinstance(result, Moved)
    assert result.call.delivered


async def test_many_callers_each_get_their_own_results(store: Store) -> None:
    async def run_one() -> Call:
        call = await admitted(store)
        (result,) = await store.commit([Move(call.id, Event.SETTLE, "payments", fence=1, outcome=PAID)])
        assert isinstance(result, Moved)
        assert result.call.id == call.id
        return result.call

    calls = await asyncio.wait_for(asyncio.gather(*(run_one() for _ in range(200))), 30)
    assert len({call.id for call in calls}) == 200
    assert [await store.get_call(call.id) for call in calls[::50]] == calls[::50]


async def test_what_was_committed_soon_is_there_after_closing(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/state.db"
    store = await open_store(url)
    call = await admitted(store)
    store.commit_soon([Note(call.id, "last words", "me")])
    await store.close()
    await store.close()
    again = await open_store_for_reading(url)
    assert [entry.event for entry in await again.journal(call.id)] == [Event.START, "last words"]
    await again.close()


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/state.db"
    store = await open_store(url)
    call = await admitted(store)
    store.commit_soon([Note(call.id, "last words", "me")])
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.wait_for(store.close(), 5)
    again = await open_store_for_reading(url)
    assert len(await again.journal(call.id)) == 2
    await again.close()


def test_a_simulation_runs_the_same_store_without_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    raw = connect_writer(path)
    migrate(raw, str(path))
    clock = Clock(0.0)
    write = admit()
    (result,) = apply_batch(raw, [[write]], clock.now, Retention())
    assert isinstance(result, list)
    assert isinstance(result[0], Accepted)
    assert result[0].call.created_at == 0.0

    async def simulate() -> Call | None:
        inline = InlineConnection(raw)
        store = SqliteStore(path=path, writer=inline, lookups=inline, lists=inline, clock=clock, retention=Retention())
        clock.advance(5)
        await store.commit([Move(write.call.id, Event.SETTLE, "payments", fence=1, outcome=PAID)])
        found = await store.get_call(write.call.id)
        await store.close()
        return found

    call = asyncio.run(simulate())
    assert call is not None
    assert (call.state, call.ended_at) == (State.DONE, 5.0)


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    raw = connect_writer(path)
    modes = {name: raw.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "fullfsync")}
    raw.close()
    full = 2
    assert modes == {"journal_mode": "wal", "synchronous": full, "fullfsync": 1}


WRITER = """
    import asyncio, sys
    sys.path[:0] = sys.argv[2:]
    from store_builders import admitted, new_call
    from holdfast_store.open import open_store

    async def main() -> None:
        store = await open_store(sys.argv[1])
        while True:
            calls = await asyncio.gather(*(admitted(store, new_call()) for _ in range(4)))
            for call in calls:
                print(call.id, flush=True)

    asyncio.run(main())
"""


async def test_a_returned_commit_survives_a_kill(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/state.db"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), url, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(50)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert all(acknowledged)
    reader = await open_store_for_reading(url)
    for call_id in acknowledged:
        assert await reader.get_call(call_id) is not None
    await reader.close()
    store = await open_store(url)
    assert (await store.health(deep=True)).problems == ()
    await store.close()
