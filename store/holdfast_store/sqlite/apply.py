"""A batch of commits as one transaction, on whatever connection and at whatever time it is given.

All commits of a batch share the transaction and the fsync. One that raises takes back its own writes and nobody
else's. That costs nothing while nothing raises: only when a commit raised is the batch rolled back, and each of its
commits run again in a transaction of its own. (Savepoints would not do: a full disk may end the whole transaction.)
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from holdfast_store.contract import (
    Admit,
    Answer,
    Claim,
    Decide,
    Expire,
    Follow,
    KeepSecret,
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
from holdfast_store.sqlite.keep import keep_secret, mark, note, purge, renew, save_catalog
from holdfast_store.sqlite.move import claim, move
from holdfast_store.sqlite.rounds import answer, follow
from holdfast_store.sqlite.sweep import expire, recover
from holdfast_store.sqlite.transaction import Transaction

CommitResult = list[WriteResult] | Exception
"""What became of one commit: a result per write, or what it raised, and then none of its writes was applied."""

_APPLIERS: dict[type, Callable[[Transaction, Any], WriteResult]] = {
    Admit: admit,
    Record: record,
    Claim: claim,
    Move: move,
    Answer: answer,
    Follow: follow,
    Decide: decide,
    Renew: renew,
    Mark: mark,
    Note: note,
    Recover: recover,
    Expire: expire,
    Purge: purge,
    SaveCatalog: save_catalog,
    KeepSecret: keep_secret,
}


def apply_batch(
    connection: sqlite3.Connection, commits: Sequence[Sequence[Write]], now: float, retention: Retention
) -> list[CommitResult]:
    """Apply each commit's writes in order, durably, stamped `now`; one result per commit.

    `connection` is in autocommit mode (`isolation_level` None). Raises `sqlite3.Error` where the shared transaction
    could not begin or commit: then nothing was applied.
    """
    tx = Transaction(connection, now, retention)
    connection.execute("BEGIN IMMEDIATE")
    try:
        try:
            results: list[CommitResult] = [_apply(tx, writes) for writes in commits]
        except Exception as error:
            _roll_back(connection)
            return [error] if len(commits) == 1 else _apply_apart(tx, commits)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return results


def _apply(tx: Transaction, writes: Sequence[Write]) -> list[WriteResult]:
    return [_APPLIERS[type(write)](tx, write) for write in writes]


def _apply_apart(tx: Transaction, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
    results: list[CommitResult] = []
    for writes in commits:
        try:
            tx.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return results + [error] * (len(commits) - len(results))
        try:
            applied = _apply(tx, writes)
            tx.connection.execute("COMMIT")
            results.append(applied)
        except Exception as error:
            _roll_back(tx.connection)
            results.append(error)
    return results


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
