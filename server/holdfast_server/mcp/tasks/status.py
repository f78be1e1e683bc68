"""Where a call stands, as a task says it: one table for both dialects, and the words that go with it. Pure."""

from enum import StrEnum

from holdfast_server.mcp.payloads import iso
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, OutcomeKind


class TaskStatus(StrEnum):
    """The statuses that both dialects know."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATUSES: dict[State, TaskStatus] = {
    State.QUEUED: TaskStatus.WORKING,
    State.RUNNING: TaskStatus.WORKING,
    State.WAITING_FOR_APPROVAL: TaskStatus.WORKING,  # the requester is not the one to ask
    State.IN_DOUBT: TaskStatus.WORKING,
    State.WAITING_FOR_INPUT: TaskStatus.INPUT_REQUIRED,
    State.DONE: TaskStatus.COMPLETED,
    State.FAILED: TaskStatus.FAILED,
    State.CANCELLED: TaskStatus.CANCELLED,
}

POLL_MS = 500
PARKED_POLL_MS = 5_000
"""How often it makes sense to ask for a call that moves by itself, and for one that waits for a person."""

_PARKED = frozenset({State.WAITING_FOR_APPROVAL, State.IN_DOUBT})


def core_status(call: Call) -> TaskStatus:
    """The status in core tasks of 2025-11-25, where an error result is a failure."""
    return _STATUSES[call.state]


def extension_status(call: Call) -> TaskStatus:
    """The status in the extension of 2026-07-28, where only a JSON-RPC error is a failure."""
    failed = call.state is State.FAILED
    if failed and (call.outcome is None or call.outcome.kind is not OutcomeKind.RPC_ERROR):
        return TaskStatus.COMPLETED
    return _STATUSES[call.state]


def common_fields(call: Call, status: TaskStatus) -> Json:
    """What a task of either dialect begins with."""
    fields: Json = {"taskId": call.id, "status": status.value}
    words = status_message(call)
    if words is not None:
        fields["statusMessage"] = words
    return {**fields, "createdAt": iso(call.created_at), "lastUpdatedAt": iso(call.updated_at)}


def poll_ms(call: Call) -> int:
    """How long to wait before asking again, in milliseconds."""
    return PARKED_POLL_MS if call.state in _PARKED else POLL_MS


def lifetime_ms(call: Call, kept_s: float) -> int | None:
    """How long after its creation the task may be forgotten, in milliseconds; None (for ever) while it is open.

    `kept_s` is how long the outcome of an ended call is kept.
    """
    if call.ended_at is None:
        return None
    return max(1, round((call.ended_at - call.created_at + kept_s) * 1000))


def outcome_is_kept(call: Call) -> bool:
    """Whether an ended call still has what came of it."""
    return call.outcome is not None and bool(call.outcome.payload)


def status_message(call: Call) -> str | None:
    """What is waited for and since when, or how the call ended where its result does not say so."""
    since = iso(call.updated_at)
    match call.state:
        case State.QUEUED:
            waits = "another attempt" if call.fence else "its turn to run"
            order = "" if call.ticket is None or call.fence else "; calls like this one run one after the other"
            return f"Waiting since {since} for {waits}{order}.{_cancel_words(call)}"
        case State.RUNNING:
            return f"Running since {since}.{_cancel_words(call)}"
        case State.WAITING_FOR_APPROVAL:
            why = f" {call.note}" if call.note else ""
            return f"Waiting since {since} for the approval of a person other than you; nothing has run yet.{why}"
        case State.WAITING_FOR_INPUT:
            return f"Waiting since {since} for your input."
        case State.IN_DOUBT:
            return (
                f"Outcome unknown since {since}: the call was sent and its answer was lost, so it may have had its "
                "effect. It waits for an admin to look. Do not repeat it."
            )
        case State.DONE:
            return None
        case State.FAILED | State.CANCELLED:
            return (call.outcome.message or None) if call.outcome is not None else None


def _cancel_words(call: Call) -> str:
    asked = " A cancel was asked for; what was already sent cannot be called back."
    return asked if call.cancel_requested else ""
