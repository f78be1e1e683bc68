"""One table from states to the statuses of both dialects, walked in full."""

from dataclasses import replace

import pytest

from holdfast_server.mcp.tasks.status import (
    common_fields,
    core_status,
    extension_status,
    lifetime_ms,
    outcome_is_kept,
    poll_ms,
    status_message,
)
from holdfast_store.model.lifecycle import TERMINAL, State
from holdfast_store.model.values import Call, Outcome, OutcomeKind

CALL = Call(
    id="c" * 32,
    tenant="default",
    principal="local",
    tool="ledger__write",
    downstream="ledger",
    original_name="write",
    identity="i",
    definition="d",
    arguments={},
    fingerprint="f",
    run="r",
    retry_safe=False,
    requesters=("local",),
    state=State.QUEUED,
    created_at=1_000.0,
    updated_at=1_060.0,
)


def ended(state: State, kind: OutcomeKind) -> Call:
    return replace(CALL, state=state, ended_at=1_100.0, outcome=Outcome(kind, {"message": "so it was", "code": -32603}))


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_an_open_call_works_or_asks_and_says_since_when(state):
    call = replace(CALL, state=state)
    expected = "input_required" if state is State.WAITING_FOR_INPUT else "working"
    assert (core_status(call), extension_status(call)) == (expected, expected)
    assert "since 1970-01-01T00:17:40.000Z" in (status_message(call) or "")
    assert lifetime_ms(call, 60.0) is None
    assert poll_ms(call) > 0


def test_a_queued_call_of_a_line_says_what_it_may_be_waiting_for():
    assert "for its turn to run." in (status_message(CALL) or "")
    in_line = replace(CALL, line="contact-7", ticket=2)
    assert "for its turn to run; calls like this one run one after the other." in (status_message(in_line) or "")


@pytest.mark.parametrize(
    ("state", "kind", "core", "extension"),
    [
        (State.DONE, OutcomeKind.RESULT, "completed", "completed"),
        (State.FAILED, OutcomeKind.TOOL_ERROR, "failed", "completed"),
        (State.FAILED, OutcomeKind.RPC_ERROR, "failed", "failed"),
        (State.FAILED, OutcomeKind.ERROR, "failed", "completed"),
        (State.FAILED, OutcomeKind.UNREACHABLE, "failed", "completed"),
        (State.FAILED, OutcomeKind.DENIED, "failed", "completed"),
        (State.FAILED, OutcomeKind.REJECTED, "failed", "completed"),
        (State.FAILED, OutcomeKind.EXPIRED, "failed", "completed"),
        (State.CANCELLED, OutcomeKind.CANCELLED, "cancelled", "cancelled"),
    ],
)
def test_each_ending_has_its_status_in_each_dialect(state, kind, core, extension):
    call = ended(state, kind)
    assert (core_status(call), extension_status(call)) == (core, extension)
    fields = common_fields(call, extension_status(call))
    assert (fields["taskId"], fields["createdAt"], fields["lastUpdatedAt"]) == (
        CALL.id,
        "1970-01-01T00:16:40.000Z",
        "1970-01-01T00:17:40.000Z",
    )


def test_a_lifetime_counts_from_the_creation_to_the_end_of_what_retention_leaves():
    assert lifetime_ms(ended(State.DONE, OutcomeKind.RESULT), 60.0) == 160_000


def test_an_ended_call_without_its_outcome_is_not_kept():
    assert outcome_is_kept(ended(State.DONE, OutcomeKind.RESULT))
    assert not outcome_is_kept(replace(CALL, state=State.DONE, outcome=None))
    assert not outcome_is_kept(replace(CALL, state=State.DONE, outcome=Outcome(OutcomeKind.RESULT, {})))
