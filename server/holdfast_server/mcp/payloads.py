"""Calls, approvals and journal entries as the admin tools show them: fixed shapes, ISO 8601 times in UTC."""

from datetime import UTC, datetime
from typing import Any

from holdfast_store.model.values import Approval, Call, JournalEntry, Json


def iso(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def call_payload(call: Call) -> Json:
    """A call, without what is None."""
    return _present(
        {
            "id": call.id,
            "status": call.state.value,
            "tool": call.tool,
            "downstream": call.downstream,
            "tenant": call.tenant,
            "principal": call.principal,
            "run": call.run,
            "key": call.key,
            "arguments": call.arguments,
            "attempts": call.fence,
            "rules": list(call.rules),
            "note": call.note,
            "approval_id": call.approval_id,
            "resumes": call.resumes,
            "line": call.line,
            "ticket": call.ticket,
            "cancel_requested": call.cancel_requested,
            "delivered": call.delivered,
            "created_at": iso(call.created_at),
            "updated_at": iso(call.updated_at),
            "ended_at": iso(call.ended_at),
            "execute_by": iso(call.execute_by),
            "outcome": None if call.outcome is None else {"kind": call.outcome.kind.value, **call.outcome.payload},
        }
    )


def approval_payload(approval: Approval) -> Json:
    """An approval with everything its approver must see."""
    return _present(
        {
            "id": approval.id,
            "call_id": approval.call_id,
            "status": approval.status.value,
            "tool": approval.tool,
            "tenant": approval.tenant,
            "requester": approval.requesters[0] if approval.requesters else None,
            "requesters": list(approval.requesters),
            "arguments": approval.arguments,
            "arguments_sha256": approval.arguments_hash,
            "definition_sha256": approval.definition,
            "reason": approval.reason,
            "requirements": [
                {
                    "rule": need.rule,
                    "min": need.min_verdicts,
                    "roles": sorted(need.roles),
                    "prevent_self_review": need.prevent_self_review,
                    "reason": need.reason,
                }
                for need in approval.requirements
            ],
            "verdicts": [
                {"principal": v.principal, "verdict": v.kind.value, "comment": v.comment, "at": iso(v.at)}
                for v in approval.verdicts
            ],
            "created_at": iso(approval.created_at),
            "expires_at": iso(approval.expires_at),
            "decided_at": iso(approval.decided_at),
        }
    )


def entry_payload(entry: JournalEntry) -> Json:
    """One line of a timeline."""
    return {
        "at": iso(entry.at),
        "event": str(entry.event),
        "state": entry.state.value,
        "attempt": entry.attempt,
        "actor": entry.actor,
        "detail": entry.detail,
    }


def _present(fields: dict[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
