"""Recover and Expire: what moves calls when nobody does. Time and recovery act under the name of `ITSELF`."""

from collections.abc import Mapping

from holdfast_store.contract import Expire, Recover, Swept
from holdfast_store.model.lifecycle import Event, State, transition
from holdfast_store.model.values import Call, Json, Outcome, OutcomeKind
from holdfast_store.sqlite.advance import Step, advance
from holdfast_store.sqlite.lines import ahead_of
from holdfast_store.sqlite.rounds import for_next_attempt
from holdfast_store.sqlite.rows import STATES, Found, found_from
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import ITSELF, Transaction

_CALLS = load("calls")
_ABANDONED, _LAPSED, _OVERDUE = _CALLS["abandoned"], _CALLS["lapsed"], _CALLS["overdue"]
_TERMS = load("approvals")["terms"]


def recover(tx: Transaction, write: Recover) -> Swept:
    """Take over running calls that nobody runs any more: queue again, fail, or leave in doubt."""
    if write.takeover:
        rows = tx.connection.execute(_ABANDONED, (write.owner,)).fetchall()
    else:
        rows = tx.connection.execute(_LAPSED, (tx.now,)).fetchall()
    moved = (_take_over(tx, write, found_from(row)) for row in rows)
    return Swept(tuple(call for call in moved if call is not None))


def _take_over(tx: Transaction, write: Recover, found: Found) -> Call | None:
    watched = found.remote_task is not None
    losses = found.losses if watched else found.losses + 1
    event = Event.RETRY if watched else Event.LOSE
    if found.retry_safe and not watched:
        event = Event.RETRY if losses < write.max_losses else Event.FAIL
    changes: dict[str, object] = {"losses": losses}
    if event is Event.RETRY:
        changes |= for_next_attempt(found, over=not watched)
    if event is Event.FAIL:
        message = f"Its answer was lost {losses} times; no attempt is left."
        changes["outcome"] = Outcome(OutcomeKind.ERROR, {"message": message})
    if event is Event.LOSE:
        changes["note"] = _how_lost(found)
    detail = {"recovered_by": write.owner, "lost_owner": found.lease_owner}
    due_at = found.deadline_at if event is Event.RETRY and not watched else None
    return _advance(tx, found, event, detail, changes, due_at)


def _how_lost(found: Found) -> str:
    if STATES[found.state] is State.WAITING_FOR_INPUT:
        return f"{found.downstream} asked for input in the midst of it, and the question died with the engine"
    return "the engine that had sent it ended before the answer came"


def expire(tx: Transaction, write: Expire) -> Swept:
    """End what has run out of time."""
    rows = tx.connection.execute(_OVERDUE, (tx.now, write.limit)).fetchall()
    moved = (_run_out(tx, found_from(row)) for row in rows)
    return Swept(tuple(call for call in moved if call is not None))


def _run_out(tx: Transaction, found: Found) -> Call | None:
    message = _sentence(tx, found)
    outcome = Outcome(OutcomeKind.EXPIRED, {"message": message})
    return _advance(tx, found, Event.EXPIRE, {"reason": message}, {"outcome": outcome}, None)


def _advance(
    tx: Transaction, found: Found, event: Event, detail: Json, changes: Mapping[str, object], due_at: float | None
) -> Call | None:
    row = transition(event, STATES[found.state])
    if row is None:
        return None
    return advance(tx, Step(found, row, found.fence, ITSELF, detail, changes, due_at))


def _sentence(tx: Transaction, found: Found) -> str:
    late = found.deadline_at is not None and found.deadline_at <= tx.now
    terms = None if found.approval_id is None else tx.row(_TERMS, found.approval_id)
    expires_at, expires_in_s, execute_within_s = terms or (None, 0.0, 0.0)
    match STATES[found.state]:
        case State.WAITING_FOR_APPROVAL if expires_at is not None and expires_at <= tx.now:
            return f"Not enough people decided within {span(expires_in_s)}, so it expired and was not run."
        case State.WAITING_FOR_APPROVAL:
            return "Its deadline passed before enough people had decided, so it was not run."
        case State.WAITING_FOR_INPUT:
            return f"{found.downstream} asked for input before it went on, and nobody answered in time."
        case _ if found.execute_by is not None and found.execute_by <= tx.now and not late:
            terms_words = f"It was approved, but could not start within {span(execute_within_s)}, so it was not run"
            return f"{terms_words}{_behind(tx, found)}."
        case _:
            return f"Its deadline passed before it could start{_behind(tx, found)}."


def _behind(tx: Transaction, found: Found) -> str:
    """What kept a queued call from starting, where that was its line."""
    ahead = ahead_of(tx, found)
    return "" if ahead is None else f": call {ahead} was before it in its line"


def span(seconds: float) -> str:
    """A span in the largest unit that leaves a whole number: ``90 s``, ``15 min``, ``4 h``, ``2 days``."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} day" if unit == "days" and count == 1 else f"{count} {unit}"
    return f"{seconds:g} s"
