"""Admit and Record: taking a call in, or finding the call that already answers for it."""

import sqlite3
from dataclasses import replace

from holdfast_store.contract import (
    Accepted,
    Admit,
    Conflict,
    Dedupe,
    Joined,
    Purged,
    Record,
    Replayed,
    Retention,
    Stale,
)
from holdfast_store.model.lifecycle import TERMINAL, Event, State, Transition, transition
from holdfast_store.model.values import UNDISPATCHED, Call, NewApproval, NewCall, Outcome, OutcomeKind
from holdfast_store.sqlite.advance import attach
from holdfast_store.sqlite.ask import ask, check_decidable
from holdfast_store.sqlite.lines import Ticket, ticket
from holdfast_store.sqlite.rows import call_from, new_call_fields, new_call_values, to_json
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction, earliest

_CALLS = load("calls")
_INSERT_OPEN, _INSERT_ENDED = _CALLS["insert_open"], _CALLS["insert_ended"]
_BY_KEY, _RELEASE_KEY = _CALLS["by_key"], _CALLS["release_key"]
_RESUMING, _JOINABLE = _CALLS["resuming"], _CALLS["joinable"]

AdmitResult = Accepted | Replayed | Joined | Conflict | Purged | Stale


def admit(tx: Transaction, write: Admit) -> AdmitResult:
    """Take the call in, unless its key, the call it resumes or an undelivered same call already answers.

    Raises `ValueError` for a write that lacks what its event needs.
    """
    row = _entry_row(write)
    answer = _by_key(tx, write.call) or _by_resumption(tx, write.call) or _by_repetition(tx, write)
    if answer is not None:
        return answer
    if write.joins_only:
        return Stale(None)
    held = ticket(tx, write.call.line, None, row.target)
    if held.behind is None:
        return Accepted(_insert(tx, write, row, held))
    if not write.may_wait:
        return Stale(None)
    waiting = replace(write, event=Event.ADMIT, lease=None, detail={**write.detail, "waits_for_call": held.behind})
    return Accepted(_insert(tx, waiting, _row(Event.ADMIT, None), held), held.behind)


def holds_key(call: Call, now: float, retention: Retention) -> bool:
    """Whether the key of `call` is still taken: open, replayable or a tombstone; early free if never dispatched."""
    if call.ended_at is None or call.outcome is None:
        return True
    went_on = call.remote_task is not None or (call.round is not None and call.round.number > 0)
    dispatched = went_on or call.outcome.kind not in UNDISPATCHED or call.failures + call.losses > 0
    span_s = retention.replay_s + retention.tombstone_s if dispatched else retention.undispatched_s
    return now < call.ended_at + span_s


def replays(call: Call, now: float, retention: Retention) -> bool:
    """Whether the outcome of an ended call still answers its key."""
    return call.ended_at is not None and now < call.ended_at + retention.replay_s


def _entry_row(write: Admit) -> Transition:
    row = transition(write.event, None)
    if row is None:
        raise ValueError(f"a call cannot be admitted by {write.event}")
    if (write.lease is not None) != (row.target is State.RUNNING):
        raise ValueError("START, and only START, carries a lease")
    if (write.outcome is not None) != (row.target in TERMINAL):
        raise ValueError("DENY, and only DENY, carries an outcome")
    if (write.approval is not None) != (row.target is State.WAITING_FOR_APPROVAL):
        raise ValueError("PARK, and only PARK, carries an approval")
    if write.approval is not None:
        check_decidable(write.approval)
    return row


def _by_key(tx: Transaction, new: NewCall) -> Replayed | Joined | Conflict | Purged | None:
    if new.key is None:
        return None
    row = tx.row(_BY_KEY, new.key, new.principal, new.original_name, new.downstream, new.tenant)
    if row is None:
        return None
    holder = call_from(row)
    if not holds_key(holder, tx.now, tx.retention):
        tx.connection.execute(_RELEASE_KEY, (holder.id,))
        return None
    if holder.fingerprint != new.fingerprint:
        return Conflict(holder.id)
    if holder.ended_at is None:
        return Joined(holder)
    return Replayed(holder) if replays(holder, tx.now, tx.retention) else Purged(holder.id, holder.ended_at)


def _by_resumption(tx: Transaction, new: NewCall) -> Joined | None:
    row = None if new.resumes is None else tx.row(_RESUMING, new.resumes)
    return None if row is None else Joined(call_from(row))


def _by_repetition(tx: Transaction, write: Admit) -> Joined | None:
    new, dedupe = write.call, write.dedupe
    if dedupe is None or new.key is not None or new.resumes is not None:
        return None
    row = tx.connection.execute(_JOINABLE, _repetition(new, dedupe, tx.now - write.waited_s)).fetchone()
    return None if row is None else Joined(call_from(row))


def _repetition(new: NewCall, dedupe: Dedupe, asked_at: float) -> dict[str, object]:
    return {
        "fingerprint": new.fingerprint,
        "original_name": new.original_name,
        "principal": new.principal,
        "downstream": new.downstream,
        "tenant": new.tenant,
        "client_call_id": new.client_call_id,
        "open_since": asked_at - dedupe.min_age_s,
        "ended_since": asked_at - dedupe.join_window_s,
    }


def _insert(tx: Transaction, write: Admit, row: Transition, held: Ticket) -> Call:
    parked = write.approval
    call = _new_call(write, row, tx.now, held)
    if call.outcome is None:
        seq = _insert_open(tx, call, _due_at(call, parked))
    else:
        seq = _insert_ended(tx, call, call.outcome)
    detail = {**write.detail, "note": write.note} if write.note else write.detail
    if call.round is not None:
        attach(tx, seq, call)
    if parked is not None:
        ask(tx, seq, parked)
        detail = {**detail, "approval_id": parked.id}
    tx.append(seq, row.event.value, row.target.value, call.fence, call.principal, detail)
    return call


def _new_call(write: Admit, row: Transition, now: float, held: Ticket) -> Call:
    new, lease, approval = write.call, write.lease, write.approval
    return Call(
        **new_call_fields(new),
        state=row.target,
        created_at=now - write.waited_s,
        updated_at=now,
        outcome=write.outcome,
        fence=0 if lease is None else 1,
        deadline_at=None if new.deadline_s is None else now + new.deadline_s,
        lease_owner=None if lease is None else lease.owner,
        lease_until=None if lease is None else now + lease.lease_s,
        ended_at=None if write.outcome is None else now,
        approval_id=None if approval is None else approval.id,
        note=write.note,
        round=write.round,
        ticket=held.number,
    )


def _due_at(call: Call, parked: NewApproval | None) -> float | None:
    if parked is not None:
        return earliest(call.deadline_at, call.updated_at + parked.expires_in_s)
    return call.deadline_at if call.state is State.QUEUED else None


def _insert_open(tx: Transaction, call: Call, due_at: float | None) -> int:
    values = (
        *new_call_values(call),
        call.state.value,
        call.created_at,
        call.updated_at,
        call.fence,
        call.deadline_at,
        call.lease_owner,
        call.lease_until,
        call.approval_id,
        call.note,
        int(call.key is not None),
        due_at,
        call.ticket,
    )
    return _sequence(tx.connection.execute(_INSERT_OPEN, values))


def _insert_ended(tx: Transaction, call: Call, outcome: Outcome) -> int:
    values = (
        *new_call_values(call),
        call.state.value,
        call.created_at,
        call.updated_at,
        call.fence,
        call.failures,
        int(call.delivered),
        call.deadline_at,
        call.ended_at,
        call.note,
        int(call.key is not None),
        outcome.kind.value,
        to_json(outcome.payload),
    )
    return _sequence(tx.connection.execute(_INSERT_ENDED, values))


def _sequence(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:
        raise sqlite3.DatabaseError("the insert reported no row")
    return cursor.lastrowid


def record(tx: Transaction, write: Record) -> Accepted:
    """Journal a read that has already run, as one attempt. Raises `ValueError` for a call with a key."""
    if write.call.key is not None:
        raise ValueError("a call with a key is admitted before it runs")
    start = _row(Event.START, None)
    end = _row(_ENDED_BY.get(write.outcome.kind, Event.FAIL), start.target)
    created_at = tx.now - write.took_s
    call = Call(
        **new_call_fields(write.call),
        state=end.target,
        created_at=created_at,
        updated_at=tx.now,
        outcome=write.outcome,
        delivered=write.delivered,
        fence=1,
        failures=int(end.event is Event.FAIL),
        deadline_at=None if write.call.deadline_s is None else created_at + write.call.deadline_s,
        ended_at=tx.now,
    )
    seq = _insert_ended(tx, call, write.outcome)
    tx.append_at(created_at, seq, start.event.value, start.target.value, 1, call.principal, {})
    tx.append(seq, end.event.value, end.target.value, 1, call.downstream, {})
    return Accepted(call)


_ENDED_BY = {OutcomeKind.RESULT: Event.SETTLE, OutcomeKind.CANCELLED: Event.CANCEL}
"""What ended a recorded call; any other outcome is a failure."""


def _row(event: Event, source: State | None) -> Transition:
    row = transition(event, source)
    if row is None:
        raise ValueError(f"the lifecycle has no {event} from {source}")
    return row
