"""Bringing a file's tables up to date: all missing migrations in one transaction, or none."""

import re
import sqlite3
from collections.abc import Iterator, Mapping

from holdfast_store.model.errors import StoreError
from holdfast_store.sqlite.statements import migrations

APPLICATION_ID = 0x48464153
"""Marks the file as Holdfast's ("HFAS"), in the header field that SQLite keeps for it."""

OLDEST_SQLITE = (3, 38, 0)
"""STRICT tables, RETURNING, and JSON functions in every build."""


def migrate(connection: sqlite3.Connection, location: str, scripts: Mapping[int, str] | None = None) -> int:
    """Apply what is missing and return the version. `connection` is in autocommit mode.

    Raises `StoreError` for a file that a newer version wrote, that something else made, or a SQLite that is too old.
    """
    _check_sqlite()
    known = migrations() if scripts is None else scripts
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _check(connection, location, max(known))
        for number, script in known.items():
            if number > version:
                _apply(connection, number, script)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return max(known)


def check_version(connection: sqlite3.Connection, location: str) -> None:
    """For readers, who migrate nothing. Raises `StoreError` where the tables are not exactly this version's."""
    _check_sqlite()
    known = max(migrations())
    version = _check(connection, location, known)
    if version < known:
        raise StoreError(
            f"The store {location} has version {version}, this Holdfast reads version {known}; start the engine "
            "once, so that it is brought up to date."
        )


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}, the store needs {oldest} or newer; "
            "install a newer Python or SQLite."
        )


def _check(connection: sqlite3.Connection, location: str, known: int) -> int:
    """The file's version, 0 for an empty file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise StoreError(f"The store {location} is a database of another program; name another file in the store url.")
    if version > known:
        raise StoreError(
            f"The store {location} was written by a newer Holdfast (version {version}, this one knows {known}); "
            "upgrade Holdfast, or name another file in the store url."
        )
    return int(version)


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    for statement in _statements(script):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {number}")


def _statements(script: str) -> Iterator[str]:
    """One statement at a time: `executescript` would commit first, and half a migration could stay."""
    pending = ""
    for piece in re.split("(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
