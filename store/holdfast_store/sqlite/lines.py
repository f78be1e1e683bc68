"""Lines: calls that run one at a time, in the order of their tickets. Whoever has the lowest ticket is next.

Tickets are taken and given back by the very moves that bring a call into its line and out of it, so that no other
process can come between. A call without a line costs nothing here, not even a statement.
"""

from typing import NamedTuple

from holdfast_store.model.lifecycle import IN_LINE, State
from holdfast_store.sqlite.rows import Found
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import ITSELF, Transaction

_CALLS = load("calls")
_LAST, _FIRST, _TAKE = _CALLS["last_in_line"], _CALLS["first_in_line"], _CALLS["take_ticket"]


class Ticket(NamedTuple):
    """A place in a line, None for none; `behind` is the call directly before it, where it was taken just now."""

    number: int | None
    behind: str | None = None


NO_TICKET = Ticket(None)


def ticket(tx: Transaction, line: str | None, held: int | None, state: State) -> Ticket:
    """The ticket of a call that comes to `state`: the one that it `held`, a new one at the end of its line, or none."""
    if line is None or state not in IN_LINE:
        return NO_TICKET
    if held is not None:
        return Ticket(held)
    last = tx.row(_LAST, line)
    return Ticket(1) if last is None else Ticket(int(last[1]) + 1, str(last[0]))


def take(tx: Transaction, seq: int, number: int | None) -> None:
    """Write the ticket of the call with that `seq`, or that it has none any more."""
    tx.connection.execute(_TAKE, (number, seq))


def is_next(tx: Transaction, found: Found) -> bool:
    """Whether no call is before this one."""
    return found.ticket is None or ahead_of(tx, found) is None


def ahead_of(tx: Transaction, found: Found) -> str | None:
    """The call whose turn it is before that of `found`."""
    first = None if found.ticket is None else tx.row(_FIRST, found.line)
    return None if first is None or first[1] == found.id else str(first[1])


def call_next(tx: Transaction, left: Found) -> None:
    """The call `left` its line: journal whose turn has come by that, for whom it has waited and for how long."""
    first = tx.row(_FIRST, left.line)
    if first is None or left.ticket is None:
        return
    seq, _, number, state, fence, since = first
    if number > left.ticket:
        detail = {"waited_for_call": left.id, "waited_s": round(max(0.0, tx.now - since), 3)}
        tx.append(seq, "next_in_line", state, fence, ITSELF, detail)
