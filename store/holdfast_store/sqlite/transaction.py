"""What every write works with: the open transaction, its time, and the journal."""

import sqlite3
from dataclasses import dataclass

from holdfast_store.contract import Retention
from holdfast_store.model.values import Json
from holdfast_store.sqlite.rows import Found, Row, found_from, to_json
from holdfast_store.sqlite.statements import load

_BY_ID = load("calls")["by_id"]
_APPEND = load("journal")["append"]

ITSELF = "holdfast"
"""The actor of what time and recovery do."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open write transaction. `now` is the one time that all its writes are stamped with."""

    connection: sqlite3.Connection
    now: float
    retention: Retention

    def row(self, statement: str, *values: object) -> Row | None:
        """The first row, or None. The statement must yield no second one."""
        row: Row | None = self.connection.execute(statement, values).fetchone()
        return row

    def find(self, call_id: str) -> Found | None:
        """The call as it stands, or None where there is none."""
        row = self.row(_BY_ID, call_id)
        return None if row is None else found_from(row)

    def append(self, seq: int, event: str, state: str, attempt: int, actor: str, detail: Json) -> None:
        """Journal one entry, stamped now."""
        self.append_at(self.now, seq, event, state, attempt, actor, detail)

    def append_at(self, at: float, seq: int, event: str, state: str, attempt: int, actor: str, detail: Json) -> None:
        """Journal one entry of an earlier moment of this transaction's own call."""
        text = to_json(detail) if detail else None
        self.connection.execute(_APPEND, (seq, at, event, state, attempt, actor, text))


def earliest(*times: float | None) -> float | None:
    """The least of the given times, None where none is given."""
    return min((time for time in times if time is not None), default=None)
