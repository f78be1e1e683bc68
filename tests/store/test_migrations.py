"""Tables: made and brought up to date in one step, never half, and never by an older version."""

import sqlite3
from pathlib import Path

import pytest
from store_builders import admitted, new_approval

from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event
from holdfast_store.open import open_store, open_store_for_reading
from holdfast_store.sqlite.connection import connect_writer
from holdfast_store.sqlite.migrate import APPLICATION_ID, migrate
from holdfast_store.sqlite.rows import Found
from holdfast_store.sqlite.statements import load, migrations


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    path = tmp_path / "state.db"
    path.touch()
    opened = connect_writer(path)
    yield opened
    opened.close()


def shape(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    columns = [
        (table, *map(str, column[1:]))
        for table in sorted(tables)
        for column in connection.execute("SELECT * FROM pragma_table_info(?)", (table,))
    ]
    indexes = [
        (name, " ".join(sql.split()))
        for name, sql in connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY name"
        )
    ]
    return columns + indexes


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_versions_count_from_one_without_gaps() -> None:
    assert list(migrations()) == list(range(1, len(migrations()) + 1))


def test_fresh_equals_migrated_step_by_step(tmp_path: Path) -> None:
    shapes = []
    for name, steps in (("fresh", [len(migrations())]), ("stepwise", range(1, len(migrations()) + 1))):
        path = tmp_path / name
        path.touch()
        connection = connect_writer(path)
        for known in steps:
            migrate(connection, name, {number: sql for number, sql in migrations().items() if number <= known})
        shapes.append(shape(connection))
        connection.close()
    assert shapes[0] == shapes[1]


def test_a_migration_keeps_what_is_stored(connection: sqlite3.Connection) -> None:
    migrate(connection, "here")
    columns = "downstream, identity, protocol_version, tools, seen_at"
    connection.execute(f"INSERT INTO catalogs ({columns}) VALUES ('git', 'i', 'v', '[]', 1.0)")
    added = "ALTER TABLE catalogs ADD COLUMN note TEXT; CREATE INDEX catalogs_by_note ON catalogs (note);"
    newest = max(migrations()) + 1
    assert migrate(connection, "here", {**migrations(), newest: added}) == newest
    assert connection.execute("SELECT downstream, note FROM catalogs").fetchall() == [("git", None)]


def test_a_migration_that_fails_leaves_nothing_behind(connection: sqlite3.Connection) -> None:
    migrate(connection, "here")
    before = shape(connection)
    newest = max(migrations()) + 1
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, "here", {**migrations(), newest: "CREATE TABLE half (a TEXT); CREATE TABLE half (b TEXT);"})
    assert (shape(connection), version(connection)) == (before, newest - 1)
    assert not connection.in_transaction


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection, "here")
    before = shape(connection)
    migrate(connection, "here")
    assert shape(connection) == before
    assert version(connection) == max(migrations())


async def test_a_file_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    newer.execute(f"PRAGMA user_version = {max(migrations()) + 1}")
    newer.execute("CREATE TABLE later (a TEXT)")
    newer.close()
    for opening in (open_store, open_store_for_reading):
        with pytest.raises(StoreError, match=r"newer Holdfast.*upgrade"):
            await opening(f"sqlite://{path}")
    check = sqlite3.connect(path)
    assert [name for (name,) in check.execute("SELECT name FROM sqlite_schema")] == ["later"]
    check.close()


async def test_a_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE bookmarks (a TEXT)")
    foreign.close()
    for opening in (open_store, open_store_for_reading):
        with pytest.raises(StoreError, match=r"another program.*store url"):
            await opening(f"sqlite://{path}")


async def test_a_reader_of_an_empty_file_is_told_to_start_the_engine(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    with pytest.raises(StoreError, match="start the engine"):
        await open_store_for_reading(f"sqlite://{tmp_path}/state.db")


async def test_a_store_that_was_closed_opens_with_all_it_had(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/deeper/still/state.db"
    store = await open_store(url)
    call = await admitted(store, event=Event.PARK, approval=new_approval())
    approval = await store.get_approval(str(call.approval_id))
    await store.close()
    again = await open_store(url)
    assert await again.get_call(call.id) == call
    assert await again.get_approval(str(call.approval_id)) == approval
    await again.close()


async def test_the_file_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "fresh"
    store = await open_store(f"sqlite://{folder}/state.db")
    await admitted(store)
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    await store.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_columns_are_read_in_the_order_in_which_they_are_named() -> None:
    assert tuple(name.strip() for name in load("calls")["columns"].split(",")) == Found._fields
