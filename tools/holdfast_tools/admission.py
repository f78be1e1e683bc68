"""From a request and a decision to what the store admits. Pure, but for the clock in `recorded`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from holdfast_policy.admission import still_satisfied
from holdfast_policy.values import Decision, Effect, Subject
from holdfast_store.contract import Admit, Dedupe, Lease
from holdfast_store.model.errors import BreakerOpen, CallError, KeyConflict, OutcomePurged, Overloaded
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    Approval,
    Call,
    Json,
    NewApproval,
    NewCall,
    Outcome,
    OutcomeKind,
    Principal,
    Round,
    new_id,
)
from holdfast_tools.catalog import Tool
from holdfast_tools.downstream.gate import TurnedAway
from holdfast_tools.ordering import line_of
from holdfast_tools.request import CallRequest

KEY_LENGTH = 255


def idempotency_key(request: CallRequest, tool: Tool) -> str | None:
    """The request's key: its own, else the value of the tool's `key_argument`.

    Raises `CallError` where it is not 1 to 255 printable ASCII characters.
    """
    key = request.key
    if key is None and tool.settings.key_argument is not None:
        value = request.arguments.get(tool.settings.key_argument)
        key = value if isinstance(value, str) else None
    if key is not None and not (1 <= len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise CallError(
            f"The idempotency key of {tool.name} must be 1 to {KEY_LENGTH} printable ASCII characters; nothing ran. "
            "Send a key of that form, or none."
        )
    return key


def subject_of(tool: Tool, principal: Principal, arguments: Json) -> Subject:
    """What policy is asked about when `principal` calls `tool`."""
    return Subject(tool.canonical, tool.downstream, tool.annotations, principal, arguments, tool.misfits)


def requester(call: Call, principals: Mapping[tuple[str, str], Principal]) -> Principal:
    """Who asked for `call`, with the roles of today: none where the config does not know them any more."""
    return principals.get((call.tenant, call.principal)) or Principal(call.principal, tenant=call.tenant)


def run_of(request: CallRequest, call_id: str) -> str:
    """The run a call belongs to: the trace id of its `traceparent`, else what the client named, else itself.

    The trace id is the second field of a W3C `traceparent` (Trace Context, section 3.2).
    """
    if request.traceparent is not None:
        fields = request.traceparent.split("-")
        if len(fields) >= 4 and len(fields[1]) == 32:
            return fields[1]
    return request.run or call_id


def new_call(request: CallRequest, tool: Tool, key: str | None, fingerprint: str, decision: Decision) -> NewCall:
    """The call as it is to be admitted."""
    call_id = new_id()
    line = line_of(
        tool.settings.order,
        tenant=request.principal.tenant,
        downstream=tool.downstream,
        tool=tool.original_name,
        arguments=request.arguments,
    )
    return NewCall(
        id=call_id,
        tenant=request.principal.tenant,
        principal=request.principal.id,
        tool=tool.canonical,
        downstream=tool.downstream,
        original_name=tool.original_name,
        identity=tool.identity,
        definition=tool.digest,
        arguments=request.arguments,
        fingerprint=fingerprint,
        run=run_of(request, call_id),
        retry_safe=tool.annotations.retry_safe or (key is not None and tool.settings.forward_key is not None),
        requesters=(request.principal.id,),
        key=key,
        client_call_id=request.client_call_id,
        traceparent=request.traceparent,
        rules=decision.rules,
        deadline_s=deadline_s(request, tool),
        client=request.client.to_json() or None,
        line=line,
    )


def deadline_s(request: CallRequest, tool: Tool) -> float | None:
    """How long the call may still be sent: what the client allows, and no longer than the tool's setting."""
    return min((span for span in (request.deadline_s, tool.settings.deadline_s) if span is not None), default=None)


def opening(request: CallRequest) -> Round | None:
    """The answers that a new call brings along unasked."""
    return None if request.input_responses is None else Round(0, answers=request.input_responses)


def admission(
    request: CallRequest,
    tool: Tool,
    call: NewCall,
    decision: Decision,
    lease: Lease | None,
    waited_s: float,
    waits_for: str | None = None,
) -> Admit:
    """How `call` is taken in, by what policy decided: denied, parked, or allowed; then, with a `lease`, at once.

    `waited_s` is how long ago `request` came, `waits_for` what an allowed call cannot start without.
    """
    first = opening(request)
    joins = call.key is None and first is None and tool.settings.dedupe and not tool.annotations.read_only
    dedupe = Dedupe(join_window_s=tool.settings.join_window_s) if joins else None
    admit = partial(Admit, call, waited_s=waited_s, round=first, dedupe=dedupe)
    if decision.effect is Effect.DENY:
        return admit(Event.DENY, outcome=Outcome(OutcomeKind.DENIED, {"message": decision.reason}))
    if decision.effect is Effect.REQUIRE_APPROVAL:
        approval = new_approval(decision, call.fingerprint, call.definition)
        return admit(Event.PARK, approval=approval, note=decision.reason)
    note = decision.reason if decision.would_ask else None
    detail = {"would_ask": decision.reason} if decision.would_ask else {}
    if waits_for is not None:
        detail["waits_for"] = waits_for
    return admit(Event.START if lease is not None else Event.ADMIT, lease=lease, note=note, detail=detail)


def recorded(call: NewCall, outcome: Outcome, took_s: float) -> Call:
    """The call that `Record` will store, for the reply that does not wait for it."""
    now = time.time()
    fields = {name: getattr(call, name) for name in NewCall.__dataclass_fields__}
    return Call(
        **fields,
        state=State.DONE if outcome.kind is OutcomeKind.RESULT else State.FAILED,
        created_at=now - took_s,
        updated_at=now,
        ended_at=now,
        outcome=outcome,
        delivered=True,
        fence=1,
    )


def conflict(tool: Tool, key: str, call_id: str) -> KeyConflict:
    """Why a key that was used with other arguments answers nothing."""
    return KeyConflict(
        f'The idempotency key "{key}" of {tool.name} was already used with other arguments, by call {call_id}. '
        "Nothing ran. Send the same arguments to get that call's outcome, or a new key for a new call."
    )


def purged(tool: Tool, key: str) -> OutcomePurged:
    """Why a key answers nothing whose call ended so long ago that its outcome is gone."""
    return OutcomePurged(
        f'The call of {tool.name} with the idempotency key "{key}" was executed and its outcome is no longer kept. '
        "It was not executed again. Use a new key for a new call."
    )


def repeats_may_join(tool: Tool, call: NewCall) -> bool:
    """Whether an earlier call may answer for this one, so that it must be looked for before it is turned away."""
    return call.key is not None or call.resumes is not None or (tool.settings.dedupe and not tool.annotations.read_only)


def turned_away(tool: Tool, why: TurnedAway) -> CallError:
    """Why a call is not taken in now; its key, should it have one, is as free as before."""
    again = f"Nothing ran, and nothing is kept of it: the same call may be made again in {why.retry_after_s} s."
    kind = Overloaded if why.cause == "overloaded" else BreakerOpen
    return kind(f"{tool.name} cannot be called now: {why.reason}. {again}", why.retry_after_s)


def new_approval(decision: Decision, arguments_hash: str, definition: str) -> NewApproval:
    """The question to people that `decision` asks for."""
    return NewApproval(
        id=new_id(),
        requirements=decision.requirements,
        arguments_hash=arguments_hash,
        definition=definition,
        reason=decision.reason,
        expires_in_s=decision.expires_in_s,
        execute_within_s=decision.execute_within_s,
    )


@dataclass(frozen=True, slots=True)
class Recheck:
    """What today's policy says of a call that was admitted earlier."""

    effect: Effect
    decision: Decision


def recheck(call: Call, tool: Tool, decision: Decision, approval: Approval | None) -> Recheck:
    """Whether an admitted call may start under today's `decision` and definition.

    A deny added since wins. What the verdicts do not cover is asked again: other requirements, another text of a
    rule, another definition of the tool, other arguments.
    """
    if decision.effect is Effect.DENY:
        return Recheck(Effect.DENY, decision)
    if decision.effect is Effect.ALLOW:
        return Recheck(Effect.ALLOW, decision)
    bound = (
        approval is not None
        and approval.definition == tool.digest
        and approval.arguments_hash == call.fingerprint
        and still_satisfied(decision, approval)
    )
    return Recheck(Effect.ALLOW if bound else Effect.REQUIRE_APPROVAL, decision)


def holder_of(asker: NewCall | Principal) -> str:
    """In whose sessions of a downstream a call, or a principal's request, may run, besides the one connection."""
    return f"{asker.tenant}/{asker.id if isinstance(asker, Principal) else asker.principal}"


def dispatched_arguments(call: NewCall, tool: Tool) -> Json:
    """What the downstream is sent: the call's arguments, and its key where the downstream honours one."""
    name = tool.settings.forward_key
    if name is None or call.key is None or name in call.arguments:
        return call.arguments
    return {**call.arguments, name: call.key}
