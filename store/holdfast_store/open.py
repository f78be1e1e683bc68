"""From a store url to a store."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from holdfast_store.contract import Retention, Store
from holdfast_store.model.errors import StoreError
from holdfast_store.sqlite.connection import ThreadConnection, connect_reader, connect_writer
from holdfast_store.sqlite.faults import explained
from holdfast_store.sqlite.log_file import check_log
from holdfast_store.sqlite.migrate import check_version, migrate
from holdfast_store.sqlite.store import SqliteStore

_SCHEME = "sqlite://"


async def open_store(url: str, *, retention: Retention | None = None, clock: Callable[[], float] = time.time) -> Store:
    """Open ``sqlite:///absolute/path`` for writing; create file (0600) and folder (0700) where they are missing.

    Brings the tables up to date. Raises `StoreError` where the url, the file or the disk is in the way. Whoever
    opens it for writing holds the owner lock: two writers are safe, but the second waits for the first.
    """
    path = store_path(url)
    make_folder(url)
    _create(path)
    with explained(str(path)):
        writer = await ThreadConnection.open(partial(_connect_and_migrate, path))
        return await _with_readers(path, writer, retention, clock)


async def open_store_for_reading(url: str, *, clock: Callable[[], float] = time.time) -> Store:
    """Open an existing store beside its engine; its `commit` raises `StoreError`.

    Raises `StoreError` where there is no such file or it is not of this version.
    """
    path = store_path(url)
    if not path.exists():
        raise StoreError(f"The store {path} does not exist yet; it is made when the engine first starts.")
    with explained(str(path)):
        return await _with_readers(path, None, None, clock)


def check_before_opening(url: str) -> None:
    """Raise `StoreError` where the store at `url` is known to have lost acknowledged commits. Changes nothing.

    Call it before every opening in a process of its own, for reading too: to open such a store destroys the evidence.
    Where this process has opened the store already, it must not be called.
    """
    check_log(store_path(url))


def store_path(url: str) -> Path:
    """The file of a store url. Raises `StoreError` for any other kind of store."""
    path = Path(url.removeprefix(_SCHEME))
    if not url.startswith(_SCHEME) or not path.is_absolute():
        raise StoreError(f"The store url must read sqlite:///absolute/path, not {url!r}.")
    return path


async def _with_readers(
    path: Path, writer: ThreadConnection | None, retention: Retention | None, clock: Callable[[], float]
) -> SqliteStore:
    opened = [] if writer is None else [writer]
    try:
        for _ in range(2):
            opened.append(await ThreadConnection.open(partial(_connect_to_read, path)))
    except BaseException:
        for connection in opened:
            await connection.close()
        raise
    return SqliteStore(
        path=path,
        writer=writer,
        lookups=opened[-2],
        lists=opened[-1],
        clock=clock,
        retention=retention or Retention(),
    )


def make_folder(url: str) -> None:
    """Make the folder of the store at `url` (0700) where it is missing. Raises `StoreError`."""
    path = store_path(url)
    with _explained_making(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create(path: Path) -> None:
    with _explained_making(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def _explained_making(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        verb = "written" if path.is_file() else "made"
        raise StoreError(
            f"The store {path} cannot be {verb}: {error.strerror}; choose another place in the store url, or give "
            "this user permission there.",
            f"the file cannot be {verb}",
        ) from error


def _connect_and_migrate(path: Path) -> sqlite3.Connection:
    connection = connect_writer(path)
    try:
        migrate(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    connection = connect_reader(path)
    try:
        check_version(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection
