"""When the disk or the file is in the way: a sentence that names cause and mend, and nothing half done."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from store_builders import LEASE, Clock, admitted, new_call, one

from holdfast_store.contract import Accepted, Admit, CallFilter, Retention
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event
from holdfast_store.open import open_store, open_store_for_reading
from holdfast_store.sqlite.connection import ThreadConnection, connect_reader, connect_writer
from holdfast_store.sqlite.store import SqliteStore


@asynccontextmanager
async def opened(path: Path, connect: Callable[[], sqlite3.Connection]) -> AsyncIterator[SqliteStore]:
    """A store of an existing file whose writer is `connect`'s."""
    store = SqliteStore(
        path=path,
        writer=await ThreadConnection.open(connect),
        lookups=await ThreadConnection.open(partial(connect_reader, path)),
        lists=await ThreadConnection.open(partial(connect_reader, path)),
        clock=Clock(),
        retention=Retention(),
    )
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store's file with one call in it."""
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    await admitted(store)
    await store.close()
    return tmp_path / "state.db"


async def test_a_file_that_is_not_a_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("Dear diary, " * 500)
    for opening in (open_store, open_store_for_reading):
        with pytest.raises(StoreError, match=r"state\.db: the file is not a SQLite database.*store url"):
            await opening(f"sqlite://{path}")
    assert path.read_text() == "Dear diary, " * 500


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be made: Is a directory"):
        await open_store(f"sqlite://{tmp_path}")


async def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        await open_store(f"sqlite://{tmp_path}/state/state.db")


@pytest.mark.parametrize("url", ["state.db", "sqlite://state.db", "postgresql://host/db", "sqlite:", ""])
async def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///absolute/path"):
        await open_store(url)


async def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist yet"):
        await open_store_for_reading(f"sqlite://{tmp_path}/state.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_store_opened_for_reading_refuses_to_write(path: Path) -> None:
    store = await open_store_for_reading(f"sqlite://{path}")
    with pytest.raises(StoreError, match="opened for reading"):
        await admitted(store)
    assert len((await store.list_calls(CallFilter(), 10)).items) == 1
    await store.close()


async def test_a_reader_sees_what_the_engine_commits_meanwhile(path: Path) -> None:
    engine = await open_store(f"sqlite://{path}")
    reader = await open_store_for_reading(f"sqlite://{path}")
    call = await admitted(engine)
    assert await reader.get_call(call.id) == call
    await reader.close()
    await engine.close()


async def test_a_file_that_can_only_be_read_says_so(path: Path) -> None:
    async with opened(path, partial(connect_reader, path)) as store:
        with pytest.raises(StoreError, match=r"can only be read; give this user write permission.*SQLITE_READONLY"):
            await admitted(store)
        assert len((await store.list_calls(CallFilter(), 10)).items) == 1


async def test_a_full_disk_fails_the_commit_and_keeps_what_was_there(path: Path) -> None:
    raw: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        raw.append(connect_writer(path))
        pages = raw[0].execute("PRAGMA page_count").fetchone()[0]
        raw[0].execute(f"PRAGMA max_page_count = {pages}").fetchone()
        return raw[0]

    async with opened(path, connect) as store:
        large = new_call(arguments={"text": "x" * 100_000})
        with pytest.raises(StoreError, match=r"disk is full.*free some space.*SQLITE_FULL"):
            await admitted(store, large)
        assert await store.get_call(large.id) is None
        raw[0].execute("PRAGMA max_page_count = 1000000").fetchone()
        assert (await admitted(store, large)).id == large.id


async def test_a_write_too_large_for_the_disk_does_not_fail_those_beside_it(path: Path) -> None:
    def connect() -> sqlite3.Connection:
        connection = connect_writer(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 8}").fetchone()
        return connection

    async with opened(path, connect) as store:
        small = [Admit(new_call(), Event.START, LEASE) for _ in range(2)]
        large = Admit(new_call(arguments={"text": "x" * 1_000_000}), Event.START, LEASE)
        results = await asyncio.gather(
            *(store.commit([write]) for write in (small[0], large, small[1])), return_exceptions=True
        )
        assert [type(result[0]) for result in (results[0], results[2])] == [Accepted, Accepted]
        assert isinstance(results[1], StoreError)


LOCKER = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.readline()
"""


async def test_a_lock_held_by_another_process_fails_the_commit_and_names_it(path: Path) -> None:
    async with opened(path, partial(connect_writer, path, busy_timeout_s=0.05)) as store:
        command = [sys.executable, "-c", textwrap.dedent(LOCKER), str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
            assert locker.stdout is not None
            assert locker.stdout.readline() == "locked\n"
            with pytest.raises(StoreError, match=r"another process holds its lock.*SQLITE_BUSY"):
                await admitted(store)
            locker.communicate("\n", timeout=10)
        await admitted(store)


async def test_a_damaged_file_is_reported(path: Path) -> None:
    store = await open_store(f"sqlite://{path}")
    for _ in range(50):
        await admitted(store)
    await store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*restore a backup.*SQLITE_CORRUPT"):
        await open_store(f"sqlite://{path}")


async def test_a_slightly_damaged_file_is_found_by_the_deep_check(path: Path) -> None:
    damaged = sqlite3.connect(path, isolation_level=None)
    damaged.execute("PRAGMA writable_schema = ON")
    damaged.execute("PRAGMA foreign_keys = OFF")
    damaged.execute("INSERT INTO journal VALUES (99, 12345, 1.0, 'note', 'running', 1, 'me', NULL)")
    damaged.close()
    store = await open_store_for_reading(f"sqlite://{path}")
    assert (await store.health()).problems == ()
    assert (await store.health(deep=True)).problems == ("row 99 of journal refers to nothing in calls",)
    await store.close()


async def test_a_closed_store_refuses_everything(path: Path) -> None:
    store = await open_store(f"sqlite://{path}")
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.get_call("x")
    with pytest.raises(StoreError, match="closed"):
        await one(store, Admit(new_call(), Event.ADMIT))
