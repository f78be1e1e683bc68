"""Files that something else has changed: never a crash, never a wrong kind of error, and a loss is told."""

import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from store_builders import LEASE, PAID, admitted, in_state, moved, new_approval, new_call, one

from holdfast_store.contract import (
    Admit,
    CallFilter,
    Claim,
    Decide,
    Expire,
    Mark,
    Note,
    Purge,
    Recover,
    Retention,
    Store,
)
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import VerdictKind
from holdfast_store.open import check_before_opening, open_store, open_store_for_reading
from holdfast_store.sqlite.connection import connect_writer

PAGE_BYTES = 4096
SEEDS = 80


@pytest.fixture
async def whole(tmp_path: Path) -> tuple[Path, list[str], list[str]]:
    """A store's file with calls in every state, folded together; the ids of its calls and approvals."""
    store = await open_store(f"sqlite://{tmp_path}/whole.db")
    calls = [await in_state(store, state, key=f"k{number}") for number, state in enumerate([*State] * 5)]
    await store.close()
    approvals = [call.approval_id for call in calls if call.approval_id is not None]
    return tmp_path / "whole.db", [call.id for call in calls], approvals


def flipped(content: bytes, seed: int) -> bytes:
    """`content` with something wrong on one page beyond the first: a few bytes, all of it, or another page's."""
    chance = random.Random(seed)
    damaged = bytearray(content)
    page = chance.randrange(1, len(content) // PAGE_BYTES)
    start, end = page * PAGE_BYTES, (page + 1) * PAGE_BYTES
    match seed % 4:
        case 0 | 1:
            for _ in range(chance.randint(1, 200)):
                damaged[chance.randrange(start, end)] = chance.randrange(256)
        case 2:
            damaged[start:end] = bytes(PAGE_BYTES) if chance.random() < 0.5 else chance.randbytes(PAGE_BYTES)
        case 3:
            other = chance.randrange(1, len(content) // PAGE_BYTES)
            damaged[start:end] = content[other * PAGE_BYTES : (other + 1) * PAGE_BYTES]
    return bytes(damaged)


def everything(store: Store, calls: list[str], approvals: list[str]) -> list[Callable[[], Awaitable[object]]]:
    """All that an engine asks of a store, on every call."""
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: store.list_calls(CallFilter(), 1000),
        lambda: store.list_calls(CallFilter(states=frozenset({State.QUEUED})), 1000),
        lambda: store.list_approvals(None, 1000),
        lambda: store.runnable(1000),
        store.next_due_s,
        store.catalogs,
        store.health,
        lambda: store.health(deep=True),
        lambda: store.commit([Recover("engine-2", takeover=True)]),
        lambda: store.commit([Expire()]),
        lambda: store.commit([Purge(Retention())]),
        lambda: store.commit([Admit(new_call(), Event.PARK, approval=new_approval())]),
    ]
    for number, id_ in enumerate(calls):
        key = f"k{number}"
        asked += [
            lambda id_=id_: store.get_call(id_),
            lambda id_=id_: store.journal(id_),
            lambda key=key: store.find_key("default", "local", "payments", "refund", key),
            lambda id_=id_: store.commit([Claim(id_, LEASE)]),
            lambda id_=id_: store.commit([Mark(id_, delivered=True), Note(id_, "seen", "me")]),
            lambda key=key: store.commit([Admit(new_call(key=key), Event.START, LEASE)]),
        ]
    for id_ in approvals:
        verdict = Decide(id_, "alice", frozenset({"approver"}), VerdictKind.APPROVE)
        asked += [lambda id_=id_: store.get_approval(id_), lambda verdict=verdict: store.commit([verdict])]
    return asked


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
async def test_whatever_is_wrong_with_a_page_it_is_the_stores_own_error_that_says_so(
    whole: tuple[Path, list[str], list[str]], first: int
) -> None:
    path, calls, approvals = whole
    content, told = path.read_bytes(), 0
    for seed in range(first, first + 20):
        path.write_bytes(flipped(content, seed))
        with suppress(StoreError):
            store = await open_store(f"sqlite://{path}")
            try:
                told += await complaints(everything(store, calls, approvals))
            finally:
                await store.close()
    assert told > 0


async def complaints(asked: list[Callable[[], Awaitable[object]]]) -> int:
    """How often the store itself says that something is wrong; nobody else does."""
    told = 0
    for ask in asked:
        try:
            await ask()
        except StoreError:
            told += 1
    return told


async def test_a_value_that_nobody_wrote_is_damage_for_whoever_reads_it(whole) -> None:
    path, (first, second, *_), _ = whole
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE calls SET arguments = '{\"amount\": 1' WHERE id = ?", (first,))
    database.execute("UPDATE calls SET state = 'done?' WHERE id = ?", (second,))
    database.close()
    store = await open_store(f"sqlite://{path}")
    for asked in (store.get_call(first), store.get_call(second), store.commit([Claim(second, LEASE)])):
        with pytest.raises(StoreError, match=r"damaged.*restore a backup"):
            await asked
    problems = (await store.health(deep=True)).problems
    assert problems == tuple(f"row {seq} of calls holds a value that was never written" for seq in (1, 2))
    await store.close()


async def test_a_damaged_file_is_examined_even_where_it_cannot_be_counted(whole) -> None:
    path, *_ = whole
    content = bytearray(path.read_bytes())
    with sqlite3.connect(path) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'journal'").fetchone()
    database.close()
    content[(root - 1) * PAGE_BYTES : (root - 1) * PAGE_BYTES + 8] = b"\xff" * 8
    path.write_bytes(content)
    store = await open_store_for_reading(f"sqlite://{path}")
    health = await store.health(deep=True)
    await store.close()
    assert health.problems != ()


# --- the log ----------------------------------------------------------------------------------------------------


async def copied_alive(store: Store, path: Path, to: Path) -> Path:
    """The files of a store as a crash would leave them."""
    to.mkdir()
    for end in ("", "-wal", "-shm"):
        shutil.copy2(f"{path}{end}", f"{to / path.name}{end}")
    return to / path.name


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, None])
async def test_a_log_that_lacks_acknowledged_commits_is_told_before_it_is_used(tmp_path: Path, cut: int | None) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    for _ in range(5):
        await admitted(store)
    left = await copied_alive(store, path, tmp_path / "left")
    await store.close()
    log = left.with_name("state.db-wal")
    check_before_opening(f"sqlite://{left}")
    if cut is None:
        log.unlink()
    elif cut == 0:
        log.write_bytes(b"")
    else:
        log.write_bytes(log.read_bytes()[:-cut])
    for _ in range(2):
        with pytest.raises(StoreError, match=r"has lost acknowledged commits.*restore a backup"):
            check_before_opening(f"sqlite://{left}")


async def test_a_log_says_nothing_of_what_is_in_the_database_by_now(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    calls = [await admitted(store) for _ in range(5)]
    beside = connect_writer(path)
    beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    left = await copied_alive(store, path, tmp_path / "left")
    beside.close()
    await store.close()
    left.with_name("state.db-wal").unlink()
    check_before_opening(f"sqlite://{left}")
    again = await open_store(f"sqlite://{left}")
    assert [await again.get_call(call.id) for call in calls] == calls
    await again.close()


async def test_a_log_that_began_anew_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    beside = connect_writer(path)
    for round_ in range(4):
        for _ in range(3):
            await moved(store, await admitted(store), Event.SETTLE, outcome=PAID)
        left = await copied_alive(store, path, tmp_path / f"left-{round_}")
        check_before_opening(f"sqlite://{left}")
        beside.execute(f"PRAGMA wal_checkpoint({'RESTART' if round_ % 2 else 'TRUNCATE'})").fetchall()
        left = await copied_alive(store, path, tmp_path / f"then-{round_}")
        check_before_opening(f"sqlite://{left}")
    beside.close()
    await store.close()


@pytest.mark.parametrize("index", [b"", b"\x00" * 32768, b"garbage" * 5000])
async def test_an_index_that_cannot_be_trusted_is_not(tmp_path: Path, index: bytes) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    call = await admitted(store)
    left = await copied_alive(store, path, tmp_path / "left")
    await store.close()
    left.with_name("state.db-shm").write_bytes(index)
    check_before_opening(f"sqlite://{left}")
    again = await open_store(f"sqlite://{left}")
    assert await again.get_call(call.id) == call
    await again.close()


async def test_a_store_that_is_not_there_yet_lacks_nothing(tmp_path: Path) -> None:
    check_before_opening(f"sqlite://{tmp_path}/new/state.db")
    assert list(tmp_path.iterdir()) == []


# --- trouble ----------------------------------------------------------------------------------------------------


async def test_a_failed_transaction_is_remembered_and_known_to_be_over_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    await admitted(store)
    assert (await store.health()).trouble is None
    locking = sqlite3.connect(path, isolation_level=None)
    locking.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError) as refused:
        await admitted(store)
    assert refused.value.cause == "another process holds its lock"
    trouble = (await store.health()).trouble
    assert trouble is not None
    assert (trouble.sentence, trouble.over) == (str(refused.value), False)
    locking.close()
    await one(store, Admit(new_call(), Event.ADMIT))
    again = (await store.health()).trouble
    assert again is not None
    assert again.over
    await store.close()
