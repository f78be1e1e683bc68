"""All reading: functions of a connection, and pages along their indexes."""

import heapq
import json
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from holdfast_store.contract import CallFilter, Health, Page, Purged, Retention
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Approval, ApprovalStatus, Call, CatalogRecord, JournalEntry
from holdfast_store.sqlite.admit import holds_key, replays
from holdfast_store.sqlite.rows import (
    STATES,
    Row,
    approval_from,
    call_from,
    catalog_from,
    decoding,
    journal_entry_from,
    to_json,
)
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import earliest

_CALLS, _APPROVALS, _JOURNAL, _CATALOGS = load("calls"), load("approvals"), load("journal"), load("catalogs")

T = TypeVar("T")

_NEWEST = 2**63 - 1
"""Beyond every sequence number: where the first page begins."""


def get_call(connection: sqlite3.Connection, call_id: str) -> Call | None:
    row = connection.execute(_CALLS["by_id"], (call_id,)).fetchone()
    return None if row is None else call_from(row)


def find_key(
    connection: sqlite3.Connection, holder: tuple[str, str, str, str, str], now: float, retention: Retention
) -> Call | Purged | None:
    """The holder of (key, principal, original name, downstream, tenant), as `Store.find_key` answers."""
    row = connection.execute(_CALLS["by_key"], holder).fetchone()
    call = None if row is None else call_from(row)
    if call is None or not holds_key(call, now, retention):
        return None
    if call.ended_at is None or replays(call, now, retention):
        return call
    return Purged(call.id, call.ended_at)


def list_calls(connection: sqlite3.Connection, match: CallFilter, limit: int, before: int) -> Page[Call]:
    """The page of calls older than `before`, read along the index that narrows most."""
    with _snapshot(connection):
        rows = list(islice(_matching(connection, match, limit + 1, before), limit + 1))
    return _page(rows, limit, "calls", [call_from(row) for row in rows[:limit]])


def _matching(connection: sqlite3.Connection, match: CallFilter, limit: int, before: int) -> Iterator[Row]:
    states = match.states
    also: dict[str, object] = {
        "before": before,
        "limit": limit,
        "run": match.run,
        "tool": match.tool,
        "tenant": match.tenant,
        "principal": match.principal,
        "states": None if states is None else json.dumps(sorted(states)),
    }
    if match.run is not None:
        return _merged(connection, [("page_of_run", also), ("page_of_own_run", also)])
    if states is not None and State.DONE not in states:
        return _merged(connection, [("page_of_state", {**also, "state": state.value}) for state in states])
    if match.tenant is not None and match.principal is not None:
        return connection.execute(_CALLS["page_of_principal"], also)
    if match.tool is not None:
        return connection.execute(_CALLS["page_of_tool"], also)
    return connection.execute(_CALLS["page_of_all"], also)


def _merged(connection: sqlite3.Connection, pages: Sequence[tuple[str, Mapping[str, object]]]) -> Iterator[Row]:
    """Pages of disjoint conditions as one, newest first; no more of each is read than is taken."""
    return heapq.merge(*(connection.execute(_CALLS[name], values) for name, values in pages), key=_newest_first)


def _newest_first(row: Row) -> int:
    return -int(row[0])


def get_approval(connection: sqlite3.Connection, approval_id: str) -> Approval | None:
    row = connection.execute(_APPROVALS["by_id"], (approval_id,)).fetchone()
    return None if row is None else approval_from(row)


def list_approvals(
    connection: sqlite3.Connection, status: ApprovalStatus | None, limit: int, before: int, tenant: str | None = None
) -> Page[Approval]:
    """The page of approvals older than `before`, of all tenants or of one."""
    values = {"before": before, "limit": limit + 1, "tenant": tenant}
    if status is None:
        cursor = connection.execute(_APPROVALS["page_of_all"], values)
    else:
        cursor = connection.execute(_APPROVALS["page_of_status"], {**values, "status": status.value})
    rows = cursor.fetchall()
    return _page(rows, limit, "approvals", [approval_from(row) for row in rows[:limit]])


def journal(connection: sqlite3.Connection, call_id: str) -> tuple[JournalEntry, ...]:
    rows = connection.execute(_JOURNAL["of_call"], (call_id,))
    return tuple(journal_entry_from(call_id, row) for row in rows)


def runnable(connection: sqlite3.Connection, limit: int, full: Collection[str], now: float) -> tuple[Call, ...]:
    rows = connection.execute(_CALLS["runnable"], {"now": now, "limit": limit, "full": to_json(sorted(full))})
    return tuple(call_from(row) for row in rows)


def next_due_s(connection: sqlite3.Connection, now: float) -> float | None:
    pause_over, due_at = connection.execute(_CALLS["next_due"], (now,)).fetchone()
    at = earliest(pause_over, due_at)
    return None if at is None else max(0.0, at - now)


def catalogs(connection: sqlite3.Connection) -> tuple[CatalogRecord, ...]:
    return tuple(catalog_from(row) for row in connection.execute(_CATALOGS["all"]))


def health(connection: sqlite3.Connection, location: str, size_bytes: int, *, deep: bool) -> Health:
    """Counts of one moment; where `deep`, every page, every reference and every value is checked."""
    with _snapshot(connection):
        problems = _problems(connection) if deep else ()
        try:
            counts = _counts_by_state(connection)
            (pending,) = connection.execute(_APPROVALS["count_pending"]).fetchone()
            (entries,) = connection.execute(_JOURNAL["count"]).fetchone()
        except sqlite3.DatabaseError:
            if not problems:
                raise
            return Health("sqlite", location, {}, 0, 0, size_bytes, problems)
    return Health("sqlite", location, counts, pending, entries, size_bytes, problems)


def _counts_by_state(connection: sqlite3.Connection) -> dict[State, int]:
    with decoding():
        counts = {STATES[state]: count for state, count in connection.execute(_CALLS["count_by_state"])}
    (total,) = connection.execute(_CALLS["count"]).fetchone()
    done = total - sum(counts.values())
    return {**counts, State.DONE: done} if done else counts


def _problems(connection: sqlite3.Connection) -> tuple[str, ...]:
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    except sqlite3.DatabaseError as error:
        return (f"the integrity check had to be given up: {error}",)
    if found:
        return tuple(found)
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        found.append(f"row {rowid} of {table} refers to nothing in {parent}")
    for (seq,) in connection.execute(_CALLS["unreadable"], {"states": json.dumps(sorted(STATES))}):
        found.append(f"row {seq} of calls holds a value that was never written")
    return tuple(found)


def position(cursor: str | None, kind: str) -> int:
    """Where the page of `cursor` begins. Raises `ValueError` for a cursor that a list of `kind` did not make."""
    if cursor is None:
        return _NEWEST
    try:
        made_for, _, seq = urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").partition(":")
        before = int(seq)
    except ValueError:
        made_for, before = "", 0
    if made_for != kind or not 0 < before <= _NEWEST:
        raise ValueError("this cursor was not made by this list; start again without one")
    return before


def check_limit(limit: int) -> None:
    """Raise `ValueError` for a page that could hold nothing."""
    if limit < 1:
        raise ValueError("the limit of a page is at least 1")


def _page(rows: Sequence[Row], limit: int, kind: str, items: Sequence[T]) -> Page[T]:
    more = len(rows) > limit
    cursor = urlsafe_b64encode(f"{kind}:{rows[limit - 1][0]}".encode()).decode() if more else None
    return Page(tuple(items), cursor)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One moment for several statements."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")  # nothing was written, and of a damaged file a COMMIT may fail
