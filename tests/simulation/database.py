"""The store's disk: SQLite in memory that outlives its engines, with delays, faults, and a witness of every change.

The witness is a set of triggers of our own. What they write is part of the transaction that they watch: it is rolled
back with it, and knows nothing of how the product came to its changes.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Protocol, TypeVar

from holdfast_store.sqlite.connection import InlineConnection
from holdfast_store.sqlite.migrate import migrate

T = TypeVar("T")

_WITNESS = """
CREATE TABLE moves (
    moment INTEGER, instant REAL, call TEXT, was TEXT, now TEXT, fence_was INTEGER, fence INTEGER, owner_was TEXT,
    owner TEXT, kind TEXT, outcome TEXT, delivered INTEGER, updated_at REAL,
    not_before REAL
);
CREATE TRIGGER witness_admitted AFTER INSERT ON calls BEGIN
    INSERT INTO moves VALUES (
        moment(), instant(), NEW.id, NULL, NEW.state, 0, NEW.fence, NULL, NEW.lease_owner, NEW.outcome_kind,
        NEW.outcome, NEW.delivered, NEW.updated_at, NEW.not_before
    );
END;
CREATE TRIGGER witness_moved AFTER UPDATE OF state, fence, outcome, outcome_kind ON calls BEGIN
    INSERT INTO moves VALUES (
        moment(), instant(), NEW.id, OLD.state, NEW.state, OLD.fence, NEW.fence, OLD.lease_owner, NEW.lease_owner,
        NEW.outcome_kind, NEW.outcome, NEW.delivered, NEW.updated_at, NEW.not_before
    );
END;
CREATE TABLE journal_moments (seq INTEGER PRIMARY KEY, moment INTEGER, instant REAL);
CREATE TRIGGER witness_journal AFTER INSERT ON journal BEGIN
    INSERT INTO journal_moments VALUES (NEW.seq, moment(), instant());
END;
CREATE TABLE decisions (moment INTEGER, approval TEXT, was TEXT, now TEXT, at REAL);
CREATE TRIGGER witness_decided AFTER UPDATE OF status ON approvals BEGIN
    INSERT INTO decisions VALUES (moment(), NEW.id, OLD.status, NEW.status, NEW.decided_at);
END;
"""


class DiskHabits(Protocol):
    """How the disk behaves; the world knows."""

    def disk_pause_s(self) -> float:
        """How long the next step takes."""
        ...

    def disk_fails_in(self) -> int | None:
        """At which statement from now the disk fails; None for not this time."""
        ...

    async def committed(self) -> None:
        """Something is durable, and nobody has been told yet: the best moment for a crash."""
        ...


class Database(sqlite3.Connection):
    """A connection on which a statement can be made to fail, except the end of a transaction that only reads."""

    fails_in: int | None = None
    _writing = False

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        if sql.startswith("BEGIN"):
            self._writing = sql == "BEGIN IMMEDIATE"
        if self.fails_in is not None and (sql != "COMMIT" or self._writing) and sql != "ROLLBACK":
            self.fails_in -= 1
            if self.fails_in <= 0:
                self.fails_in = None
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, parameters)  # type: ignore[arg-type]


def new_database(moment: Callable[[], int], instant: Callable[[], float], changes: tuple[str, ...] = ()) -> Database:
    """A fresh store in memory; `changes` are statements that alter its tables."""
    database = sqlite3.connect(":memory:", isolation_level=None, factory=Database, cached_statements=256)
    database.deserialize(_template(changes))
    database.execute("PRAGMA foreign_keys = ON")
    database.create_function("moment", 0, moment)
    database.create_function("instant", 0, instant)
    return database


@lru_cache
def _template(changes: tuple[str, ...]) -> bytes:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.create_function("moment", 0, int)
    database.create_function("instant", 0, float)
    migrate(database, "simulation")
    database.executescript(_WITNESS)
    for statement in changes:
        database.execute(statement)
    image = database.serialize()
    database.close()
    return image


class Disk:
    """One engine's connection: what takes place on a thread and a disk in reality takes virtual time here."""

    def __init__(self, database: Database, habits: DiskHabits, random: Random) -> None:
        self._database = database
        self._inline = InlineConnection(database)
        self._habits = habits
        self._random = random

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await asyncio.sleep(self._habits.disk_pause_s())
        changed = self._database.total_changes
        self._database.fails_in = self._habits.disk_fails_in()
        try:
            result = await self._inline.run(work)
        finally:
            self._database.fails_in = None
        if self._database.total_changes != changed:
            await self._habits.committed()
        await asyncio.sleep(self._habits.disk_pause_s())
        return result

    async def close(self) -> None:
        """The database outlives its engine."""
