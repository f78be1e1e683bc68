"""What SQLite complains of, as a `StoreError` whose sentence names the cause and the mend."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast_store.model.errors import StoreError

_SENTENCES = {
    "SQLITE_FULL": "the disk is full, or the file has reached its size limit; free some space and try again",
    "SQLITE_READONLY": "it can only be read; give this user write permission on the file and on its folder",
    "SQLITE_BUSY": "another process holds its lock; find it with `fuser` on the file and stop it, or let it finish",
    "SQLITE_LOCKED": "another connection holds its lock; let it finish and try again",
    "SQLITE_CORRUPT": "the file is damaged; keep a copy of it, then restore a backup or recover it with "
    "`sqlite3 FILE .recover`",
    "SQLITE_NOTADB": "the file is not a SQLite database; name another file in the store url, or move this one away",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that it and its folder exist and that this user may use them",
    "SQLITE_PERM": "this user may not use the file; check the permissions of the file and of its folder",
    "SQLITE_IOERR": "the disk failed; check the disk and the system's log",
    "SQLITE_PROTOCOL": "the file's lock could not be taken; a network file system may not support locks: move the "
    "store to a local disk",
    "SQLITE_TOOBIG": "a value is larger than SQLite takes; lower the limit for arguments",
    "SQLITE_NOMEM": "there is not enough memory",
    "SQLITE_CONSTRAINT": "the write contradicts what is stored; this is a bug: please report it with this message",
    "SQLITE_SCHEMA": "its tables are not those of this version; restart, so that they are brought up to date",
}


def store_error(error: sqlite3.Error, location: str) -> StoreError:
    """The sentence for `error`. Extended codes (``SQLITE_BUSY_SNAPSHOT``) share that of their base code."""
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    base = "_".join(name.split("_")[:2])
    mend = _SENTENCES.get(base, "SQLite refused the statement; this is a bug: please report it with this message")
    return StoreError(f"The store {location}: {mend} ({name}: {error}).")


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Turn what SQLite raises inside into `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, location) from error
