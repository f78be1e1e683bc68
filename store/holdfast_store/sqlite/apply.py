"""A batch of commits as one transaction, on whatever connection and at whatever time it is given.

All commits of a batch share the transaction and the fsync. One that raises takes back its own writes and nobody
else's. That costs nothing while nothing raises: the batch first runs without savepoints, and only when a commit
raised is it rolled back and run again with one savepoint for each.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from holdfast_store.contract import (
    Admit,
    Claim,
    Decide,
    Expire,
    Mark,
    Move,
    Note,
    Purge,
    Record,
    Recover,
    Renew,
    Retention,
    SaveCatalog,
    Write,
    WriteResult,
)
from holdfast_store.sqlite.admit import admit, record
from holdfast_store.sqlite.decide import decide
from holdfast_store.sqlite.keep import mark, note, purge, renew, save_catalog
from holdfast_store.sqlite.move import claim, move
from holdfast_store.sqlite.sweep import expire, recover
from holdfast_store.sqlite.transaction import Transaction

CommitResult = list[WriteResult] | Exception
"""What became of one commit: a result per write, or what it raised, and then none of its writes was applied."""

_APPLIERS: dict[type, Callable[[Transaction, Any], WriteResult]] = {
    Admit: admit,
    Record: record,
    Claim: claim,
    Move: move,
    Decide: decide,
    Renew: renew,
    Mark: mark,
    Note: note,
    Recover: recover,
    Expire: expire,
    Purge: purge,
    SaveCatalog: save_catalog,
}


def apply_batch(
    connection: sqlite3.Connection, commits: Sequence[Sequence[Write]], now: float, retention: Retention
) -> list[CommitResult]:
    """Apply each commit's writes in order, in one durable transaction stamped `now`; one result per commit.

    `connection` is in autocommit mode (`isolation_level` None). Raises `sqlite3.Error` where the transaction could
    not begin or commit: then nothing was applied.
    """
    tx = Transaction(connection, now, retention)
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = _apply_all(tx, commits)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _apply_all(tx: Transaction, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
    try:
        return [_apply(tx, writes) for writes in commits]
    except Exception:
        if not tx.connection.in_transaction:
            raise
        tx.connection.execute("ROLLBACK")
        tx.connection.execute("BEGIN IMMEDIATE")
        return [_apply_apart(tx, writes) for writes in commits]


def _apply(tx: Transaction, writes: Sequence[Write]) -> list[WriteResult]:
    return [_APPLIERS[type(write)](tx, write) for write in writes]


def _apply_apart(tx: Transaction, writes: Sequence[Write]) -> CommitResult:
    tx.connection.execute("SAVEPOINT one")
    try:
        results = _apply(tx, writes)
    except Exception as error:
        if not tx.connection.in_transaction:
            raise
        tx.connection.execute("ROLLBACK TO one")
        tx.connection.execute("RELEASE one")
        return error
    tx.connection.execute("RELEASE one")
    return results
