"""A call's questions under keys that are unique for its task's lifetime: the round is a part of them. Pure."""

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json


def open_requests(call: Call) -> Json:
    """The questions that have no answer yet."""
    asked = call.round
    if asked is None or call.state is not State.WAITING_FOR_INPUT:
        return {}
    return {_outward(asked.number, key): request for key, request in asked.unanswered.items()}


def answers_to(call: Call, responses: Json) -> Json:
    """Those of `responses` that answer an open question, by the downstream's own keys; the others answer nothing."""
    asked = call.round
    if asked is None or call.state is not State.WAITING_FOR_INPUT:
        return {}
    outward = {_outward(asked.number, key): key for key in asked.unanswered}
    return {outward[key]: answer for key, answer in responses.items() if key in outward}


def _outward(number: int, key: str) -> str:
    return f"{number}.{key}"
