"""Connections, and the threads that they live on.

The rest works on a `Connection`: something that runs a function with a `sqlite3.Connection`. `ThreadConnection` does
it on a thread of its own, `InlineConnection` right where it is called: then nothing depends on threads or timing.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import aiosqlite

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for the lock of another process before it fails."""

_WRITER_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit that returned survives a power cut; NORMAL would not promise it
    "fullfsync = ON",  # the same on macOS, where fsync alone leaves it in the drive's cache
    "checkpoint_fullfsync = ON",
    "foreign_keys = ON",
    "wal_autocheckpoint = 2000",
    "journal_size_limit = 67108864",
    "cache_size = -8192",
    "temp_store = MEMORY",
)

_CACHED_STATEMENTS = 256


class Connection(Protocol):
    """Runs functions on one SQLite connection, one after the other."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`; whatever it raises is raised here."""
        ...

    async def close(self) -> None:
        """Close it after what was asked before. Safe to call twice."""
        ...


class ThreadConnection:
    """A connection on a thread of its own, so that no disk ever holds up the event loop."""

    def __init__(self, inner: aiosqlite.Connection, raw: sqlite3.Connection) -> None:
        self._inner = inner
        self._raw = raw

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> "ThreadConnection":
        """Start a thread and call `connect` on it. Raises what `connect` raises, once the thread has ended."""
        raw: list[sqlite3.Connection] = []
        failure: list[Exception] = []

        def connector() -> sqlite3.Connection:
            try:
                raw.append(connect())
            except Exception as error:
                # aiosqlite does not wait for its thread when this raises, and the thread may outlive the event loop.
                failure.append(error)
                raw.append(sqlite3.connect(":memory:"))
            return raw[0]

        inner = await aiosqlite.Connection(connector, iter_chunk_size=1)
        if failure:
            await inner.close()
            raise failure[0]
        return cls(inner, raw[0])

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # One hop to the thread for all of `work`. Each public method of aiosqlite is a hop of its own: a batch of
        # commits made of them takes four times as long.
        result: T = await self._inner._execute(work, self._raw)  # type: ignore[no-untyped-call]
        return result

    async def close(self) -> None:
        await self._inner.close()


class InlineConnection:
    """A connection without a thread: for a simulation that owns both the order of events and the clock."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self._raw)

    async def close(self) -> None:
        self._raw.close()


def connect_writer(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open an existing file for writing, durably. Raises `sqlite3.Error`."""
    connection = _connect(path, "rw", busy_timeout_s)
    try:
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open an existing file for reading only. Raises `sqlite3.Error`.

    Where this user may not write the file, and nobody has it open, it is read as it lies there: SQLite would else put a
    log beside it with the same permissions, which is in the way once the file's own are mended.
    """
    log = path.with_name(f"{path.name}-wal")
    as_it_lies = not os.access(path, os.W_OK) and not log.exists()
    connection = _connect(path, "ro&immutable=1" if as_it_lies else "ro", busy_timeout_s)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _connect(path: Path, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
