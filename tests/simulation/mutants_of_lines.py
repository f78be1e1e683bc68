"""Bugs to plant in the order of calls: somebody does not look at the line."""

from simulation.planting import Mutant, Patch, without

from holdfast_store.model.lifecycle import State
from holdfast_store.sqlite import admit, lines, move, reads
from holdfast_store.sqlite.transaction import Transaction

_ITS_TURN = "AND (ticket IS NULL OR ticket = ("


def a_claim_ignores_the_line() -> tuple[Patch, ...]:
    whoever = without(reads._CALLS["runnable"], _ITS_TURN, "AND (1 OR ticket = (")
    return (move, "is_next", lambda tx, found: True), (reads, "_CALLS", {**reads._CALLS, "runnable": whoever})


def a_start_ignores_the_line() -> tuple[Patch, ...]:
    taken = lines.ticket

    def alone(tx: Transaction, line: str | None, held: int | None, state: State) -> lines.Ticket:
        return taken(tx, line, held, state)._replace(behind=None)

    return ((admit, "ticket", alone),)


MUTANTS_OF_LINES = (
    Mutant("a claim ignores the line", a_claim_ignores_the_line),
    Mutant("a start ignores the line", a_start_ignores_the_line),
)
