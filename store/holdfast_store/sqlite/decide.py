"""Decide: one person's verdict, and the recount of the quorum, in one transaction."""

from collections.abc import Sequence

from holdfast_store.contract import Decide, Decided, Undecidable
from holdfast_store.model.lifecycle import Event, transition
from holdfast_store.model.quorum import counts, tally
from holdfast_store.model.values import Approval, ApprovalStatus, Call, Json, Outcome, OutcomeKind, Verdict, VerdictKind
from holdfast_store.sqlite.advance import Step, advance
from holdfast_store.sqlite.rows import STATES, Found, approval_from, call_from, to_json
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction, earliest

_APPROVALS = load("approvals")
_BY_ID, _INSERT_VERDICT = _APPROVALS["by_id"], _APPROVALS["insert_verdict"]

_VERBS = {VerdictKind.APPROVE: "approved", VerdictKind.REJECT: "rejected"}


def decide(tx: Transaction, write: Decide) -> Decided | Undecidable:
    """Count the verdict, and move the call where it decides; `Undecidable` names who or what was before it."""
    approval = _approval(tx, write.approval_id)
    if approval is None:
        return Undecidable(None, f"There is no approval {write.approval_id}.")
    found = tx.find(approval.call_id)
    verdict = Verdict(write.principal, write.roles, write.kind, write.comment, tx.now)
    reason = _refusal(approval, verdict, found, tx.now)
    if reason is not None or found is None:
        return Undecidable(approval, reason or "Its call is gone.")
    status = tally(approval.requirements, (*approval.verdicts, verdict), approval.requesters)
    _insert_verdict(tx, approval, verdict)
    call = _move(tx, found, approval, verdict, status)
    decided = _approval(tx, approval.id)
    if call is None or decided is None:
        raise ValueError(f"the approval {approval.id} is pending, but its call is {found.state}")
    return Decided(decided, call)


def _approval(tx: Transaction, approval_id: str) -> Approval | None:
    row = tx.row(_BY_ID, approval_id)
    return None if row is None else approval_from(row)


def _insert_verdict(tx: Transaction, approval: Approval, verdict: Verdict) -> None:
    roles = to_json(sorted(verdict.roles))
    values = (approval.id, verdict.principal, roles, verdict.kind.value, verdict.comment, verdict.at)
    tx.connection.execute(_INSERT_VERDICT, values)


def _move(tx: Transaction, found: Found, approval: Approval, verdict: Verdict, status: ApprovalStatus) -> Call | None:
    detail: Json = {"approval_id": approval.id, "comment": verdict.comment}
    if status is ApprovalStatus.PENDING:
        detail["kind"] = verdict.kind.value
        tx.append(found.seq, "verdict", found.state, found.fence, verdict.principal, detail)
        return call_from(found)
    event = Event.APPROVE if status is ApprovalStatus.APPROVED else Event.REJECT
    row = transition(event, STATES[found.state])
    if row is None:
        return None
    if event is Event.REJECT:
        message = verdict.comment or f"{verdict.principal} rejected it without giving a reason."
        rejected = Outcome(OutcomeKind.REJECTED, {"message": message})
        return advance(tx, Step(found, row, found.fence, verdict.principal, detail, {"outcome": rejected}))
    execute_by = tx.now + approval.execute_within_s
    changes = {"execute_by": execute_by}
    due_at = earliest(found.deadline_at, execute_by)
    return advance(tx, Step(found, row, found.fence, verdict.principal, detail, changes, due_at))


def _refusal(approval: Approval, verdict: Verdict, found: Found | None, now: float) -> str | None:
    """Why the verdict cannot count, in a sentence; None where it can."""
    if approval.status is not ApprovalStatus.PENDING:
        return _decided_before(approval)
    if now >= approval.expires_at:
        return "It expired before enough people had decided."
    if found is not None and found.deadline_at is not None and now >= found.deadline_at:
        return "The deadline of its call passed before enough people had decided."
    for earlier in approval.verdicts:
        if earlier.principal == verdict.principal:
            return f"{verdict.principal} has already {_VERBS[earlier.kind]} it."
    if not any(counts(need, verdict, approval.requesters) for need in approval.requirements):
        return _counts_nowhere(approval, verdict)
    return None


def _decided_before(approval: Approval) -> str:
    if approval.status is ApprovalStatus.REJECTED:
        return f"{_names(approval.verdicts, VerdictKind.REJECT)} has already rejected it."
    if approval.status is ApprovalStatus.APPROVED:
        return f"{_names(approval.verdicts, VerdictKind.APPROVE)} already approved it."
    if approval.status is ApprovalStatus.EXPIRED:
        return "It expired before enough people had decided."
    return "It was cancelled: its call no longer waits for approval."


def _names(verdicts: Sequence[Verdict], kind: VerdictKind) -> str:
    return " and ".join(verdict.principal for verdict in verdicts if verdict.kind is kind) or "Policy"


def _counts_nowhere(approval: Approval, verdict: Verdict) -> str:
    if any(need.roles & verdict.roles for need in approval.requirements):
        return f"{verdict.principal} asked for the call, and whoever asked may not decide it."
    wanted = sorted({role for need in approval.requirements for role in need.roles})
    return f"{verdict.principal} holds none of the roles that may decide it: {', '.join(wanted)}."
