"""What people and agents do with calls that exist: look, decide, resume, cancel, resolve.

Access is the caller's business (`server` knows endpoints and tokens); what a state allows is decided here.
"""

from collections.abc import Mapping
from typing import Literal

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Effect
from holdfast_store.contract import Decide, Decided, Move, Moved, Note, Stale, Store, Undecidable
from holdfast_store.model.errors import NotFound, WrongState
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    ADMIN_ONLY_RESUME,
    Approval,
    ApprovalStatus,
    Call,
    Json,
    Outcome,
    OutcomeKind,
    Principal,
    VerdictKind,
)
from holdfast_tools.admission import requester, subject_of
from holdfast_tools.catalog import Catalog
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.gateway import Gateway
from holdfast_tools.request import CallRequest, Reply
from holdfast_tools.runner import Runner
from holdfast_tools.schema import fingerprint
from holdfast_tools.steps import ENGINE
from holdfast_tools.waiters import Waiters

Resolution = Literal["done", "failed", "retry"]

_RESOLUTIONS: dict[Resolution, Event] = {
    "done": Event.RESOLVE_DONE,
    "failed": Event.RESOLVE_FAILED,
    "retry": Event.RESOLVE_RETRY,
}


class Operations:
    """The verbs on stored calls and approvals."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        policy: PolicySet,
        downstreams: Mapping[str, Downstream],
        principals: Mapping[tuple[str, str], Principal],
        runner: Runner,
        gateway: Gateway,
        waiters: Waiters,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._downstreams = downstreams
        self._principals = principals
        self._runner = runner
        self._gateway = gateway
        self._waiters = waiters

    async def call(self, call_id: str, tenant: str | None = None) -> Call:
        """A call of any tenant, or of one; raises `NotFound` for another's exactly as for none."""
        found = await self._store.get_call(call_id)
        if found is None or tenant not in (None, found.tenant):
            raise NotFound(f'There is no call "{call_id}"; list_calls names those there are.')
        return found

    async def own_call(self, call_id: str, principal: Principal) -> Call:
        """A call of `principal`; raises `NotFound` for another's exactly as for none."""
        found = await self._store.get_call(call_id)
        if found is None or (found.tenant, found.principal) != (principal.tenant, principal.id):
            raise NotFound(f'There is no task "{call_id}"; holdfast__list_tasks names yours.')
        return found

    async def approval(self, approval_id: str, tenant: str | None = None) -> Approval:
        """An approval of any tenant, or of one; raises `NotFound` for another's exactly as for none."""
        found = await self._store.get_approval(approval_id)
        if found is None or tenant not in (None, found.tenant):
            raise NotFound(f'There is no approval "{approval_id}"; list_approvals names those there are.')
        return found

    async def decide(
        self, approval_id: str, person: Principal, kind: VerdictKind, comment: str
    ) -> tuple[Approval, Call]:
        """Count `person`'s verdict. A deny that policy has learnt since wins over an approval.

        Raises `NotFound`, or `WrongState` where it does not count, with who decided.
        """
        approval = await self.approval(approval_id)
        call = await self.call(approval.call_id)
        if kind is VerdictKind.APPROVE and approval.status is ApprovalStatus.PENDING:
            await self._refuse_what_cannot_run(call)
        (result,) = await self._store.commit((Decide(approval_id, person.id, person.roles, kind, comment),))
        if isinstance(result, Undecidable):
            raise WrongState(result.reason)
        if not isinstance(result, Decided):
            raise TypeError(f"a verdict was answered with {result!r}")
        self._waiters.notify(result.call)
        if result.call.state is State.QUEUED:
            self._runner.wake()
        return result.approval, result.call

    async def resume(self, call: Call, by: Principal, *, admin: bool) -> Reply:
        """An open or done call answers itself; an ended one is admitted anew, through policy and approval again.

        Raises `WrongState` where only an admin may resume it, or an admin must resolve it first.
        """
        if call.state is State.IN_DOUBT:
            raise WrongState(
                "The outcome of this call is unknown: it may have had its effect. "
                + ("Resolve it with resolve_call." if admin else "Only an admin can resolve it; do not repeat it.")
            )
        if not call.ended or call.state is State.DONE:
            return Reply(call, replayed=call.ended, joined=not call.ended)
        if not admin and call.outcome is not None and call.outcome.kind in ADMIN_ONLY_RESUME:
            raise WrongState(f"This call was {call.outcome.kind.value}; only an admin can resume it.")
        if fingerprint(call.arguments) != call.fingerprint:
            raise WrongState("The arguments of this call are no longer kept, so it cannot be resumed; make a new call.")
        tool = self._catalog.find(call.tool)
        request = CallRequest(
            principal=requester(call, self._principals),
            tool=tool.name if tool is not None else call.tool,
            arguments=call.arguments,
            client_call_id=call.client_call_id,
            traceparent=call.traceparent,
            client=ClientProfile.from_json(call.client),
        )
        reply = await self._gateway.readmit(call, by.id, request)
        self._store.commit_soon((Note(call.id, "resumed", by.id, {"as": reply.call.id}),))
        return reply

    async def cancel(self, call: Call, by: Principal) -> Call:
        """Withdraw `call` as far as that is honest. Raises `WrongState` for what has ended or is in doubt."""
        if call.ended:
            raise WrongState(f"The call has already ended: it is {call.state.value}.")
        if call.state is State.IN_DOUBT:
            raise WrongState("The outcome of this call is unknown; an admin must resolve it, it cannot be cancelled.")
        return await self._runner.cancel(call, by.id)

    async def resolve(
        self, call: Call, by: Principal, resolution: Resolution, result: Json | None, reason: str
    ) -> Call:
        """Settle a call in doubt by what a person found out. Raises `WrongState` where it is not in doubt."""
        event = _RESOLUTIONS[resolution]
        outcome: Outcome | None = None
        if resolution == "done":
            text = {"type": "text", "text": f"Resolved as done by {by.id}: {reason}"}
            outcome = Outcome(OutcomeKind.RESULT, result if result is not None else {"content": [text]})
        elif resolution == "failed":
            outcome = Outcome(OutcomeKind.ERROR, {"message": f"Resolved as failed by {by.id}: {reason}"})
        (moved,) = await self._store.commit(
            (Move(call.id, event, by.id, outcome=outcome, note=reason, detail={"reason": reason}),)
        )
        if isinstance(moved, Stale):
            state = moved.call.state.value if moved.call is not None else "gone"
            raise WrongState(f"The call is not in doubt (any more): it is {state}.")
        if not isinstance(moved, Moved):
            raise TypeError(f"a resolution was answered with {moved!r}")
        self._waiters.notify(moved.call)
        if moved.call.state is State.QUEUED:
            self._runner.wake()
        return moved.call

    async def _refuse_what_cannot_run(self, call: Call) -> None:
        """End `call` instead of approving it, where its downstream changed or policy now denies it."""
        downstream = self._downstreams.get(call.downstream)
        if downstream is None or downstream.spec.identity != call.identity:
            await self._runner.fail_changed(call)
            raise WrongState(f"The downstream {call.downstream!r} changed since this call was made; the call failed.")
        tool = self._catalog.find(call.tool)
        if tool is None:
            return
        decision = self._policy.decide(subject_of(tool, requester(call, self._principals), call.arguments))
        if decision.effect is Effect.DENY:
            outcome = Outcome(OutcomeKind.DENIED, {"message": decision.reason})
            (moved,) = await self._store.commit((Move(call.id, Event.DENY, ENGINE, outcome=outcome),))
            if isinstance(moved, Moved):
                self._waiters.notify(moved.call)
            raise WrongState(f"Policy denies this call now: {decision.reason}")
