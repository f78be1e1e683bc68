"""What a model reads of a call that has ended."""

import pytest

from holdfast_server.mcp.render import render
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Outcome, OutcomeKind
from holdfast_tools.request import Reply


def ended(outcome: Outcome, **more) -> Call:
    return Call(
        **{
            "id": "c1",
            "tenant": "default",
            "principal": "local",
            "tool": "bank__pay",
            "downstream": "bank",
            "original_name": "pay",
            "identity": "i",
            "definition": "d",
            "arguments": {},
            "fingerprint": "f",
            "run": "c1",
            "retry_safe": False,
            "requesters": ("local",),
            "state": State.DONE if outcome.kind is OutcomeKind.RESULT else State.FAILED,
            "created_at": 0.0,
            "updated_at": 0.0,
            "outcome": outcome,
            **more,
        }
    )


@pytest.mark.parametrize("malformed", [{"content": None, "_meta": None}, {"content": "text", "_meta": []}])
def test_a_malformed_result_is_still_an_answer(malformed):
    result = render(Reply(ended(Outcome(OutcomeKind.RESULT, malformed))))
    assert result["content"] == []
    assert result["_meta"]["dev.holdfast/call"]["status"] == "done"


def test_a_result_that_is_no_longer_kept_is_not_shown_as_an_empty_one():
    result = render(Reply(ended(Outcome(OutcomeKind.RESULT, {}))))
    assert "no longer kept" in result["content"][0]["text"]
    assert not result.get("isError")


@pytest.mark.parametrize("kind", [OutcomeKind.DENIED, OutcomeKind.EXPIRED])
def test_nothing_ran_is_said_only_where_nothing_was_ever_sent(kind):
    outcome = Outcome(kind, {"message": "why"})
    assert "nothing ran" in render(Reply(ended(outcome)))["content"][0]["text"]
    told = render(Reply(ended(outcome, losses=1)))["content"][0]["text"]
    assert "nothing ran" not in told
    assert "an earlier attempt was sent" in told
