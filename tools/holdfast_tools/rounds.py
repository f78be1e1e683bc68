"""Rounds of input: what a downstream asks the requester in the midst of a call (specification 2026-07-28, SEP-2322).

Pure but for the key of the seal. A round lives in the store with its call; what a client of the stateless era is given
as `requestState` only names call and round, sealed, so that it can be taken up once and by nobody else.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast_store.model.errors import CallError
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, NewCall, Round
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Answered, Attempt

Ask = Callable[[Json], Awaitable[Json]]
"""Puts requests, by key, to the client that waits, and returns its results by key.

Raises `Unanswered` where the client will not or cannot answer one of them.
"""

SEAL_KEY_BYTES = 32

INPUT_REQUIRED = "input_required"
TASK = "task"

_SEALED = re.compile(r"hf1\.([0-9a-f]{1,64})\.([0-9]{1,9})\.([0-9a-f]{64})")


class InvalidRequestState(CallError):
    """The `requestState` is not one that can be taken up now: altered, of another call, expired or used before."""

    code = "invalid_request_state"


class Unanswered(Exception):
    """The client did not answer what the downstream asked; says why."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals the names of rounds. The key is the same for every engine of a store, so that a seal outlives them."""

    key: bytes

    def state(self, call: Call, number: int) -> str:
        """The `requestState` by which the requester of `call` takes up its round of that number."""
        return f"hf1.{call.id}.{number}.{self._digest(call, number)}"

    @staticmethod
    def names(state: str) -> tuple[str, int] | None:
        """The call and the round that a state claims to name; None where it is not of our making."""
        parts = _SEALED.fullmatch(state)
        return None if parts is None else (parts[1], int(parts[2]))

    def holds(self, state: str, call: NewCall, number: int) -> bool:
        """Whether `state` is the one that was sealed for this round of this call: its requester, tool and arguments."""
        parts = _SEALED.fullmatch(state)
        return parts is not None and hmac.compare_digest(parts[3], self._digest(call, number))

    def _digest(self, call: NewCall, number: int) -> str:
        bound = (call.id, str(number), call.tenant, call.principal, call.tool, call.fingerprint)
        text = "\x00".join(bound).encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()


def asks(attempt: object) -> bool:
    """Whether the downstream answered with a round of input."""
    return isinstance(attempt, Answered) and _kind(attempt) == INPUT_REQUIRED


def goes_on(attempt: Attempt) -> bool:
    """Whether the downstream answered with something else than an outcome: a round of input, or a task of its own."""
    return isinstance(attempt, Answered) and _kind(attempt) in (INPUT_REQUIRED, TASK)


def _kind(answer: Answered) -> object:
    return TASK if answer.core_task else (answer.result or {}).get("resultType")


def round_of(result: Mapping[str, Any], call: Call) -> Round | None:
    """The next round of `call`, as an answer of kind `input_required` puts it; None where it makes no sense."""
    requests, state = result.get("inputRequests"), result.get("requestState")
    if requests is None:
        requests = {}
    if not isinstance(requests, dict) or not isinstance(state, str | None) or (not requests and state is None):
        return None
    if not all(isinstance(request, dict) and isinstance(request.get("method"), str) for request in requests.values()):
        return None
    return Round(next_number(call), requests, state)


def asks_nothing(call: Call) -> bool:
    """Whether the open round of `call` asks nothing: the downstream only wants to get the call again.

    Such a round carries a `requestState` alone (specification 2026-07-28, multi round-trip requests). A client of that
    era that waits for its answer is told so, and comes again by itself; others would not know what to do.
    """
    asked = call.round if call.state is State.WAITING_FOR_INPUT else None
    return asked is not None and not asked.attached and not asked.requests


def waits_for_client(call: Call) -> bool:
    """Whether the open round of `call` asks something: only an answer of its client moves it on."""
    return call.state is State.WAITING_FOR_INPUT and not asks_nothing(call)


def next_number(call: Call) -> int:
    """The number of the call's next round."""
    return 1 if call.round is None else call.round.number + 1


def carried(given: Round | None) -> Json:
    """What a request's params hold besides name and arguments, where the call was asked, or answered unasked."""
    if given is None or given.attached:
        return {}
    members: Json = {}
    if given.answers or given.number > 0:
        members["inputResponses"] = given.answers
    if given.state is not None:
        members["requestState"] = given.state
    return members


def undeclared(requests: Mapping[str, Json], client: ClientProfile) -> tuple[str, ...]:
    """What of the requests the client never said it can answer, as capabilities."""
    lacking = {missing for request in requests.values() if (missing := _lacking(request, client.capabilities))}
    return tuple(sorted(lacking))


def _lacking(request: Json, capabilities: Json) -> str | None:
    params = request.get("params")
    params = params if isinstance(params, dict) else {}
    match request.get("method"):
        case "elicitation/create":
            return _lacking_elicitation(params.get("mode", "form"), capabilities.get("elicitation"))
        case "sampling/createMessage":
            sampling = capabilities.get("sampling")
            if not isinstance(sampling, dict):
                return "sampling"
            wants_tools = "tools" in params or "toolChoice" in params
            return "sampling.tools" if wants_tools and "tools" not in sampling else None
        case "roots/list":
            return None if isinstance(capabilities.get("roots"), dict) else "roots"
        case method:
            return str(method)


def _lacking_elicitation(mode: object, declared: object) -> str | None:
    """Form mode needs no more than the capability itself (specification 2025-11-25, elicitation)."""
    if not isinstance(declared, dict):
        return "elicitation"
    if mode == "form":
        return None if "form" in declared or "url" not in declared else "elicitation.form"
    return None if mode in declared else f"elicitation.{mode}"


def question(asked: Round) -> str:
    """What is asked, in words for people."""
    words = [_words(request) for request in asked.requests.values()]
    return "; ".join(words) or "nothing yet: it wants to be asked again"


def _words(request: Json) -> str:
    params = request.get("params")
    params = params if isinstance(params, dict) else {}
    match request.get("method"):
        case "elicitation/create":
            return f"input: {params.get('message', '')}"
        case "sampling/createMessage":
            return "an answer of the client's model"
        case "roots/list":
            return "the client's roots"
        case method:
            return str(method)
