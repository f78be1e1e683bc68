"""Every statement finds its rows along an index: what a store has kept for years costs nothing today."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_builders import LEASE, PAID, new_approval, new_call

from holdfast_store.contract import Admit, CallFilter, Dedupe, Move, Retention
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import ApprovalStatus
from holdfast_store.open import open_store
from holdfast_store.sqlite.apply import apply_batch
from holdfast_store.sqlite.connection import connect_writer
from holdfast_store.sqlite.migrate import migrate
from holdfast_store.sqlite.statements import load

FRAGMENTS = {"columns", "new", "also", "select"}
WHOLE = {("calls", "count"), ("calls", "count_by_state"), ("journal", "count"), ("catalogs", "all")}
"""Statements that are about a whole table or index."""

STATEMENTS = [
    (file, name, text)
    for file in ("calls", "approvals", "journal", "catalogs")
    for name, text in load(file).items()
    if name not in FRAGMENTS and (file, name) not in WHOLE
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
def test_no_statement_reads_a_whole_table_or_sorts_it(
    connection: sqlite3.Connection, file: str, name: str, text: str
) -> None:
    steps = plan(connection, text)
    scans = [step for step in steps if step.startswith("SCAN") and "json_each" not in step and "CONSTANT" not in step]
    paged = name in ("page_of_all", "of_call") or file == "journal"
    in_order = [step for step in scans if paged and step.split()[1] in ("calls", "a", "journal")]
    assert [step for step in scans if step not in in_order and "USING" not in step] == [], steps
    if name.startswith("page_of"):
        assert not any("TEMP B-TREE" in step for step in steps if name != "page_of_run"), steps
