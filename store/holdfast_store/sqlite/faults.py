"""What SQLite complains of, as a `StoreError` whose sentence names the cause and the mend."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from holdfast_store.model.errors import StoreError
from holdfast_store.sqlite.holders import lock_holders


class Fault(NamedTuple):
    """What is in the way, and what to do about it. A cause names neither path nor command."""

    cause: str
    mend: str


DAMAGED = Fault(
    "the file is damaged",
    "stop the engine, keep a copy of the file, then restore a backup or recover it with `sqlite3 FILE .recover`",
)

_FAULTS = {
    "SQLITE_FULL": Fault(
        "the disk is full, or the file has reached its size limit",
        "free some space; what was refused may then be tried again",
    ),
    "SQLITE_READONLY": Fault(
        "it can only be read",
        "give this user write permission on the file, on those beside it with the same name, and on its folder",
    ),
    "SQLITE_BUSY": Fault(
        "another process holds its lock", "find it with `fuser` on the file and stop it, or let it finish"
    ),
    "SQLITE_LOCKED": Fault("another connection holds its lock", "let it finish and try again"),
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": Fault(
        "the file is not a SQLite database", "name another file in the store url, or move this one away"
    ),
    "SQLITE_CANTOPEN": Fault(
        "the file cannot be opened", "check that it and its folder exist and that this user may use them"
    ),
    "SQLITE_PERM": Fault("this user may not use the file", "check the permissions of the file and of its folder"),
    "SQLITE_IOERR": Fault(
        "the disk failed, or a limit on the size of files is in the way",
        "check the disk, the system's log and `ulimit -f`",
    ),
    "SQLITE_PROTOCOL": Fault(
        "the file's lock could not be taken",
        "a network file system may not support locks: move the store to a local disk",
    ),
    "SQLITE_TOOBIG": Fault("a value is larger than SQLite takes", "lower the limit for arguments"),
    "SQLITE_NOMEM": Fault("there is not enough memory", "free some"),
    "SQLITE_CONSTRAINT": Fault(
        "the write contradicts what is stored", "this is a bug: please report it with this message"
    ),
    "SQLITE_SCHEMA": Fault("its tables are not those of this version", "restart, so that they are brought up to date"),
}

_UNFORESEEN = Fault("SQLite refused the statement", "this is a bug: please report it with this message")


class DamagedRow(sqlite3.DatabaseError):
    """A stored value that Holdfast cannot have written: the page that it is on was changed by something else."""

    sqlite_errorname = "SQLITE_CORRUPT_ROW"


def store_error(error: sqlite3.Error | UnicodeDecodeError, location: str) -> StoreError:
    """The sentence for `error`. Extended codes (``SQLITE_BUSY_SNAPSHOT``) share that of their base code."""
    name = getattr(error, "sqlite_errorname", None) or _unnamed(error)
    base = "_".join(name.split("_")[:2])
    fault = _FAULTS.get(base, _UNFORESEEN)
    if base == "SQLITE_BUSY":
        fault = _named(fault, Path(location))
    return StoreError(f"The store {location}: {fault.cause}; {fault.mend} ({name}: {error}).", fault.cause)


def _unnamed(error: Exception) -> str:
    """What the sqlite3 module itself complains of has no name: text that is not UTF-8 has been tampered with."""
    tampered = isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
    return "SQLITE_CORRUPT_TEXT" if tampered else "SQLITE_ERROR"


def _named(fault: Fault, path: Path) -> Fault:
    """The same with the processes that hold the lock, where the system tells."""
    holders = lock_holders(path)
    if not holders:
        return fault
    which = " and ".join(f"process {pid}" for pid in holders)
    return Fault(fault.cause, f"it is held by {which}: stop it, or let it finish")


COMPLAINTS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the second where it quotes a damaged file in its own words."""


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Turn what SQLite raises inside into `StoreError`."""
    try:
        yield
    except COMPLAINTS as error:
        raise store_error(error, location) from error
