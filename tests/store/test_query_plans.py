"""Every statement finds its rows along an index: what a store has kept for years costs nothing today."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_builders import LEASE, PAID, new_approval, new_call

from holdfast_store.contract import Admit, CallFilter, Dedupe, Move, Retention
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import ApprovalStatus
from holdfast_store.sqlite import reads
from holdfast_store.sqlite.apply import apply_batch
from holdfast_store.sqlite.connection import connect_writer
from holdfast_store.sqlite.migrate import migrate
from holdfast_store.sqlite.statements import load

FRAGMENTS = {"columns", "new", "also", "may_go", "select"}

SCANS = {
    ("calls", "count"): "counts the whole table",
    ("calls", "count_by_state"): "counts the whole index",
    ("calls", "unreadable"): "looks at every row, where somebody asks for a deep check",
    ("journal", "count"): "counts the whole table",
    ("catalogs", "all"): "a row per downstream",
    ("calls", "forgettable"): "the last row of the journal",
}
SORTS = {
    ("approvals", "by_id"): "the verdicts of one approval",
    ("approvals", "page_of_all"): "the verdicts of one approval",
    ("approvals", "page_of_status"): "the verdicts of one approval",
    ("calls", "runnable"): "queued calls whose pause is over",
    ("calls", "abandoned"): "the attempts of engines that died",
    ("calls", "lapsed"): "the attempts of engines that died",
}
TABLES = {"calls", "approvals", "verdicts", "journal", "catalogs", "secrets", "a", "c"}

STATEMENTS = [
    (file, name, text)
    for file in ("calls", "approvals", "journal", "catalogs", "secrets")
    for name, text in load(file).items()
    if name not in FRAGMENTS
]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "state.db"
    path.touch()
    opened = connect_writer(path)
    migrate(opened, str(path))
    yield opened
    opened.close()


class Anything(dict[str, None]):
    """A value for every named parameter."""

    def __missing__(self, name: str) -> None:
        return None


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    values = (None,) * statement.count("?") if "?" in statement else Anything()
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize(("file", "name", "text"), STATEMENTS, ids=[f"{file}-{name}" for file, name, _ in STATEMENTS])
def test_no_statement_reads_or_sorts_a_whole_table(
    connection: sqlite3.Connection, file: str, name: str, text: str
) -> None:
    steps = plan(connection, text)
    scans = [step for step in steps if step.startswith("SCAN") and step.split()[1] in TABLES]
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    assert bool(scans) is ((file, name) in SCANS), steps
    assert bool(sorts) is ((file, name) in SORTS), steps


def best_of(count: int, work: Callable[[], object]) -> float:
    """The least time, in seconds, that `work` took on this thread: what others do on the machine does not count."""
    times = []
    for _ in range(count):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return min(times)


def test_with_ten_thousand_parked_calls_the_first_page_comes_at_once(connection: sqlite3.Connection) -> None:
    for number in range(100):
        writes = [
            Admit(new_call(arguments={"n": [number, each]}, run=f"run-{number}"), Event.PARK, approval=new_approval())
            for each in range(100)
        ]
        apply_batch(connection, [writes], 1000.0, Retention())

    def first_page_of_approvals() -> None:
        page = reads.list_approvals(connection, ApprovalStatus.PENDING, 50, reads.position(None, "approvals"))
        assert (len(page.items), page.cursor is None) == (50, False)

    def first_page_of_calls() -> None:
        match = CallFilter(states=frozenset({State.QUEUED, State.WAITING_FOR_APPROVAL}))
        assert len(reads.list_calls(connection, match, 50, reads.position(None, "calls")).items) == 50

    assert best_of(5, first_page_of_approvals) < 0.05
    assert best_of(5, first_page_of_calls) < 0.05
    assert best_of(5, lambda: reads.next_due_s(connection, 1000.0)) < 0.005


def test_admission_does_not_slow_down_with_what_has_ended(connection: sqlite3.Connection) -> None:
    def admit_and_settle(count: int) -> None:
        calls = [new_call(arguments={"n": json.dumps([count, each])}) for each in range(count)]
        admits = [Admit(call, Event.START, LEASE, dedupe=Dedupe()) for call in calls]
        moves = [Move(call.id, Event.SETTLE, "payments", fence=1, outcome=PAID) for call in calls]
        apply_batch(connection, [admits], 1000.0, Retention())
        apply_batch(connection, [moves], 1000.0, Retention())

    admit_and_settle(100)
    young = best_of(10, lambda: admit_and_settle(50))
    for _ in range(40):
        admit_and_settle(500)
    old = best_of(10, lambda: admit_and_settle(50))
    assert old < young * 4
