"""Move and Claim: one call along one row of the lifecycle table."""

from collections.abc import Mapping

from holdfast_store.contract import Claim, Move, Moved, Stale
from holdfast_store.model.lifecycle import TERMINAL, Event, State, Transition, transition
from holdfast_store.model.values import Json
from holdfast_store.sqlite.advance import Step, advance
from holdfast_store.sqlite.ask import ask, check_decidable
from holdfast_store.sqlite.lines import is_next
from holdfast_store.sqlite.rounds import for_next_attempt, is_open
from holdfast_store.sqlite.rows import STATES, Found, call_from
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction, earliest

_TERMS = load("approvals")["terms"]

_FRUITLESS = frozenset({Event.RETRY, Event.FAIL, Event.LOSE})
"""What ends an attempt without a result."""

_BEGUN = frozenset({State.RUNNING, State.WAITING_FOR_INPUT})
"""Where an attempt may be under way."""


def claim(tx: Transaction, write: Claim) -> Moved | Stale:
    """Take the lease of a queued call's next attempt."""
    found = tx.find(write.call_id)
    row = None if found is None else transition(Event.CLAIM, STATES[found.state])
    if found is None or row is None or not _startable(found, tx.now) or not is_next(tx, found):
        return _stale(found)
    changes = {
        "fence": found.fence + 1,
        "lease_owner": write.lease.owner,
        "lease_until": tx.now + write.lease.lease_s,
        "execute_by": found.execute_by,
    }
    call = advance(tx, Step(found, row, found.fence, write.lease.owner, {}, changes))
    return _stale(found) if call is None else Moved(call)


def move(tx: Transaction, write: Move) -> Moved | Stale:
    """Move a call along the row of its state and the event; Stale where there is none or the fence is another.

    Raises `ValueError` for a write that no state of the call could make right.
    """
    if write.event is Event.CLAIM:
        raise ValueError("a call is claimed by Claim, which carries the lease")
    if write.event in (Event.ANSWER, Event.CONTINUE):
        raise ValueError("a round is answered by Answer, which carries the answers")
    found = tx.find(write.call_id)
    row = None if found is None else transition(write.event, STATES[found.state])
    if found is None or row is None or not _meant(write, found):
        return _stale(found)
    call = advance(tx, _step(tx, write, found, row))
    if call is None:
        return _stale(found)
    if write.approval is not None:
        ask(tx, found.seq, write.approval)
    return Moved(call)


def _meant(write: Move, found: Found) -> bool:
    """Whether the call stands as the write says it must, besides state and fence."""
    asks = write.round_number is None or is_open(found, write.round_number)
    return asks and not (write.unhandled and found.handled)


def _stale(found: Found | None) -> Stale:
    return Stale(None if found is None else call_from(found))


def _startable(found: Found, now: float) -> bool:
    pausing = found.not_before is not None and found.not_before > now
    overdue = found.due_at is not None and found.due_at <= now
    return not (pausing or overdue)


def _step(tx: Transaction, write: Move, found: Found, row: Transition) -> Step:
    changes, due_at = _target(tx, write, found, row)
    return Step(
        found=found,
        row=row,
        fence=write.fence if row.fenced or write.fence is not None else found.fence,
        actor=write.actor,
        detail=_detail(write),
        changes={"note": write.note, **_counters(write, found, row), **changes},
        due_at=due_at,
    )


def _target(tx: Transaction, write: Move, found: Found, row: Transition) -> tuple[Mapping[str, object], float | None]:
    """What the target state needs of the write, and when time alone will end the call there."""
    if (row.target in TERMINAL) != (write.outcome is not None):
        raise ValueError(f"{write.event} leads to {row.target}: an outcome goes with the end of a call, and only there")
    if (row.target is State.WAITING_FOR_APPROVAL) != (write.approval is not None):
        raise ValueError(f"{write.event} leads to {row.target}: an approval goes with PARK, and only there")
    if (row.target is State.WAITING_FOR_INPUT) != (write.round is not None):
        raise ValueError(f"{write.event} leads to {row.target}: a round goes with ASK, and only there")
    if write.approval is not None:
        check_decidable(write.approval)
        expires_at = tx.now + write.approval.expires_in_s
        return {"approval_id": write.approval.id}, earliest(found.deadline_at, expires_at)
    match row.target:
        case State.QUEUED:
            begun = found.remote_task is not None and not write.sent
            execute_by = None if begun else _execute_by(tx, write, found)
            not_before = tx.now + write.delay_s if write.event is Event.RETRY and write.delay_s > 0 else None
            times = {"execute_by": execute_by, "not_before": not_before}
            kept = for_next_attempt(found, over=write.sent)
            return {**times, **kept}, None if begun else earliest(found.deadline_at, execute_by)
        case State.WAITING_FOR_INPUT if write.round is not None and write.round.attached:
            lease = {"lease_owner": found.lease_owner, "lease_until": found.lease_until}
            return {"round": write.round, **lease}, None
        case State.WAITING_FOR_INPUT:
            patience = tx.now + write.delay_s if write.delay_s > 0 else None
            return {"round": write.round}, earliest(found.deadline_at, patience)
        case State.IN_DOUBT:
            return {}, None
        case _:
            return {"outcome": write.outcome}, None


def _execute_by(tx: Transaction, write: Move, found: Found) -> float | None:
    if write.event is Event.APPROVE:
        terms = None if found.approval_id is None else tx.row(_TERMS, found.approval_id)
        return None if terms is None else tx.now + float(terms[2])
    return found.execute_by if write.event is Event.RETRY and not write.sent else None


def _counters(write: Move, found: Found, row: Transition) -> Mapping[str, int]:
    lost = write.lost or write.event is Event.LOSE
    if write.event not in _FRUITLESS or not (row.source in _BEGUN or write.event is Event.LOSE):
        return {}
    if lost:
        return {"losses": found.losses + 1}
    return {"failures": found.failures + 1} if write.sent else {}


def _detail(write: Move) -> Json:
    if write.round is not None:
        asked = {key: request.get("method") for key, request in write.round.requests.items()}
        return {**write.detail, "round": write.round.number, "asked": asked, "attached": write.round.attached}
    if write.approval is not None:
        return {**write.detail, "approval_id": write.approval.id}
    return {**write.detail, "delay_s": write.delay_s} if write.delay_s > 0 else write.detail
