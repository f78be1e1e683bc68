"""Along one row of the lifecycle table: the guarded update, the place in its line, the journal, a pending approval.

The guard is in the update itself (``WHERE state = source AND fence = ?``): where it does not hold, nothing has
changed and the answer is None. What is written is read off the very value that is answered.
"""

from collections.abc import Mapping
from typing import NamedTuple

from holdfast_store.model.lifecycle import TERMINAL, Event, State, Transition
from holdfast_store.model.values import ApprovalStatus, Call, Json
from holdfast_store.sqlite.lines import NO_TICKET, Ticket, call_next, take, ticket
from holdfast_store.sqlite.rows import Found, attached_values, call_from, to_json
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction

_MOVE, _ATTACH = load("calls")["move"], load("calls")["attach"]
_ATTACHED = frozenset({"client", "round", "remote_task"})
_END_PENDING = load("approvals")["end_pending"]

_ENDED_BY = {
    Event.APPROVE: ApprovalStatus.APPROVED,
    Event.REJECT: ApprovalStatus.REJECTED,
    Event.EXPIRE: ApprovalStatus.EXPIRED,
}
"""What a pending approval becomes when its call stops waiting; by any other event it is cancelled."""


class Step(NamedTuple):
    """One move of the call that was `found` along `row`: by whom, and what the journal says of it.

    `fence` is what the call's must be. `changes` are fields of `Call` besides those that every move sets: a move
    ends pause and lease, and forgets `execute_by`, unless it sets them. `due_at` is when time alone ends the call.
    """

    found: Found
    row: Transition
    fence: int | None
    actor: str
    detail: Json
    changes: Mapping[str, object]
    due_at: float | None = None


def advance(tx: Transaction, step: Step) -> Call | None:
    """Take the step; None where the call is not in the row's source, or its fence is another."""
    found, row = step.found, step.row
    held = NO_TICKET if found.line is None else ticket(tx, found.line, found.ticket, row.target)
    call = _stepped(tx, step, held)
    if not _update(tx, step, call):
        return None
    if call.ticket != found.ticket:
        take(tx, found.seq, call.ticket)
    if not _ATTACHED.isdisjoint(step.changes):
        attach(tx, found.seq, call)
    if row.source is State.WAITING_FOR_APPROVAL:
        _end_pending_approval(tx, found.seq, _ENDED_BY.get(row.event, ApprovalStatus.CANCELLED))
    detail = {**step.detail, "note": call.note} if call.note else step.detail
    if held.behind is not None:
        detail = {**detail, "waits_for_call": held.behind}
    tx.append(found.seq, row.event.value, row.target.value, call.fence, step.actor, detail)
    if found.ticket is not None and call.ticket is None:
        call_next(tx, found)
    return call


def attach(tx: Transaction, seq: int, call: Call) -> None:
    """Write who answers `call`, its round and its remote task, as they stand in it."""
    tx.connection.execute(_ATTACH, (*attached_values(call), seq))


def _stepped(tx: Transaction, step: Step, held: Ticket) -> Call:
    fields: dict[str, object] = {
        "state": step.row.target,
        "updated_at": tx.now,
        "ended_at": tx.now if step.row.target in TERMINAL else None,
        "not_before": None,
        "execute_by": None,
        "lease_owner": None,
        "lease_until": None,
        "note": None,
        "ticket": held.number,
    }
    fields.update(step.changes)
    return call_from(step.found, **fields)


def _update(tx: Transaction, step: Step, call: Call) -> bool:
    outcome = call.outcome
    values = (
        call.state.value,
        call.updated_at,
        None if outcome is None else outcome.kind.value,
        None if outcome is None else to_json(outcome.payload),
        call.fence,
        call.failures,
        call.losses,
        call.not_before,
        call.execute_by,
        call.lease_owner,
        call.lease_until,
        call.ended_at,
        call.approval_id,
        call.note,
        step.due_at,
        step.found.seq,
        None if step.row.source is None else step.row.source.value,
        step.fence,
    )
    return tx.connection.execute(_MOVE, values).rowcount == 1


def _end_pending_approval(tx: Transaction, seq: int, status: ApprovalStatus) -> None:
    tx.connection.execute(_END_PENDING, (status.value, tx.now, seq))
