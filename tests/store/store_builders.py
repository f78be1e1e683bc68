"""Calls, approvals and writes with sensible fields, so that a test names only what it is about."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from holdfast_store.contract import Accepted, Admit, Claim, Lease, Move, Moved, Store, Write, WriteResult
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    Call,
    NewApproval,
    NewCall,
    Outcome,
    OutcomeKind,
    Requirement,
    Round,
    new_id,
)

ENGINE = "engine-1"
LEASE = Lease(ENGINE, 30.0)
PAID = Outcome(OutcomeKind.RESULT, {"content": [{"type": "text", "text": "paid"}]})
BROKEN = Outcome(OutcomeKind.TOOL_ERROR, {"content": [], "isError": True})
WITHDRAWN = Outcome(OutcomeKind.CANCELLED, {"message": "withdrawn"})
DENIED = Outcome(OutcomeKind.DENIED, {"message": "not on Sundays"})


ROUND = Round(1, {"name": {"method": "elicitation/create", "params": {"message": "Your name?"}}}, "opaque")


class Clock:
    """A clock that only the test moves."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def new_call(**fields: Any) -> NewCall:
    arguments = fields.setdefault("arguments", {"amount": 12, "to": "Zoë"})
    given: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "principal": "local",
        "tool": "payments__refund",
        "downstream": "payments",
        "original_name": "refund",
        "identity": "1f0e6a6c",
        "definition": "77ab",
        "fingerprint": hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest(),
        "run": "trace-1",
        "retry_safe": False,
        "requesters": ("local",),
    }
    return NewCall(**{**given, **fields})


def requirement(**fields: Any) -> Requirement:
    return replace(Requirement(rule="refunds", digest="d1", reason="money leaves"), **fields)


def new_approval(**fields: Any) -> NewApproval:
    given: dict[str, Any] = {
        "id": new_id(),
        "requirements": (requirement(),),
        "arguments_hash": "h",
        "definition": "77ab",
        "reason": "refunds need a person",
        "expires_in_s": 3600.0,
        "execute_within_s": 900.0,
    }
    return NewApproval(**{**given, **fields})


async def one(store: Store, write: Write) -> WriteResult:
    (result,) = await store.commit([write])
    return result


async def admitted(store: Store, call: NewCall | None = None, event: Event = Event.START, **fields: Any) -> Call:
    """A call of its own, admitted by `event`."""
    if event is Event.START:
        fields.setdefault("lease", LEASE)
    if event is Event.PARK:
        fields.setdefault("approval", new_approval())
    if event is Event.DENY:
        fields.setdefault("outcome", DENIED)
    result = await one(store, Admit(call or new_call(), event, **fields))
    assert isinstance(result, Accepted), result
    return result.call


async def moved(store: Store, call: Call, event: Event, **fields: Any) -> Call:
    """The call after a move that must succeed."""
    fields.setdefault("fence", call.fence)
    result = await one(store, Move(call.id, event, fields.pop("actor", "tester"), **fields))
    assert isinstance(result, Moved), result
    return result.call


async def claimed(store: Store, call: Call) -> Call:
    result = await one(store, Claim(call.id, LEASE))
    assert isinstance(result, Moved), result
    return result.call


async def settled(store: Store, call: NewCall | None = None) -> Call:
    return await moved(store, await admitted(store, call), Event.SETTLE, outcome=PAID)


async def attached(store: Store) -> Call:
    """A fresh call that waits for input while its attempt is under way."""
    return await moved(store, await admitted(store), Event.ASK, round=replace(ROUND, attached=True))


async def in_state(store: Store, state: State, **fields: Any) -> Call:
    """A fresh call in `state`."""
    if state is State.QUEUED:
        return await admitted(store, new_call(**fields), Event.ADMIT)
    if state is State.WAITING_FOR_APPROVAL:
        return await admitted(store, new_call(**fields), Event.PARK)
    call = await admitted(store, new_call(**fields))
    path: dict[State, tuple[Event, dict[str, Any]]] = {
        State.WAITING_FOR_INPUT: (Event.ASK, {"round": ROUND}),
        State.IN_DOUBT: (Event.LOSE, {"lost": True}),
        State.DONE: (Event.SETTLE, {"outcome": PAID}),
        State.FAILED: (Event.FAIL, {"outcome": BROKEN}),
        State.CANCELLED: (Event.CANCEL, {"outcome": WITHDRAWN}),
    }
    if state is State.RUNNING:
        return call
    event, given = path[state]
    return await moved(store, call, event, **given)
