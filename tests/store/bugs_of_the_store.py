"""Bugs to plant in the store, for the machine to find."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from simulation.mutants_of_lines import MUTANTS_OF_LINES
from simulation.mutants_of_the_store import MUTANTS_OF_THE_STORE
from simulation.planting import Mutant, Patch, without

from holdfast_store.contract import Write
from holdfast_store.model.lifecycle import State
from holdfast_store.sqlite import apply, decide, lines, move, sweep
from holdfast_store.sqlite.apply import CommitResult
from holdfast_store.sqlite.committer import Committer
from holdfast_store.sqlite.rows import Found
from holdfast_store.sqlite.transaction import Transaction


def an_entry_is_written_twice() -> tuple[Patch, ...]:
    append = Transaction.append

    def stutter(self: Transaction, seq: int, event: str, *rest: Any) -> None:
        for _ in range(2 if event == "retry" else 1):
            append(self, seq, event, *rest)

    return ((Transaction, "append", stutter),)


def a_bad_commit_fails_its_neighbours() -> tuple[Patch, ...]:
    def all_fail(tx: Transaction, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
        return [ValueError("somebody else's mistake")] * len(commits)

    return ((apply, "_apply_apart", all_fail),)


def half_of_a_bad_commit_stays() -> tuple[Patch, ...]:
    def commit(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("COMMIT")

    return ((apply, "_roll_back", commit),)


def closing_drops_what_was_promised_soon() -> tuple[Patch, ...]:
    close = Committer.close

    async def hasty(self: Committer) -> None:
        self._asked.clear()
        await close(self)

    return ((Committer, "close", hasty),)


def a_pause_does_not_hold() -> tuple[Patch, ...]:
    startable = move._startable

    def eager(found: Found, now: float) -> bool:
        return startable(found._replace(not_before=None), now)

    return ((move, "_startable", eager),)


def a_sweep_takes_those_that_waited_least() -> tuple[Patch, ...]:
    return ((sweep, "_OVERDUE", without(sweep._OVERDUE, "ORDER BY due_at", "ORDER BY due_at DESC")),)


def everybody_may_vote_twice() -> tuple[Patch, ...]:
    refusal = decide._refusal

    def forgetful(approval: Any, verdict: Any, found: Found | None, now: float) -> str | None:
        reason = refusal(approval, verdict, found, now)
        return (
            None if reason is not None and "already approved it" in reason and approval.decided_at is None else reason
        )

    again = without(decide._INSERT_VERDICT, "INSERT INTO", "INSERT OR REPLACE INTO")
    return (decide, "_refusal", forgetful), (decide, "_INSERT_VERDICT", again)


def who_is_in_doubt_keeps_its_ticket() -> tuple[Patch, ...]:
    return ((lines, "IN_LINE", lines.IN_LINE | {State.IN_DOUBT}),)


OWN = (
    Mutant("an entry is written twice", an_entry_is_written_twice),
    Mutant("a bad commit fails its neighbours", a_bad_commit_fails_its_neighbours),
    Mutant("half of a bad commit stays", half_of_a_bad_commit_stays),
    Mutant("closing drops what was promised soon", closing_drops_what_was_promised_soon),
    Mutant("a pause does not hold", a_pause_does_not_hold),
    Mutant("a sweep takes those that waited least", a_sweep_takes_those_that_waited_least),
    Mutant("everybody may vote twice", everybody_may_vote_twice),
    Mutant("who is in doubt keeps its ticket", who_is_in_doubt_keeps_its_ticket),
    *MUTANTS_OF_LINES,
)

BUGS = (*OWN, *MUTANTS_OF_THE_STORE)
