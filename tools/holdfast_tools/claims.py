"""Whether a queued call may start, as of today: its downstream, its tool and policy are asked again; then the claim."""

from collections.abc import Mapping

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Effect
from holdfast_store.contract import Claim, Lease, Move, Moved, Store
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import Call, Outcome, OutcomeKind, Principal
from holdfast_tools.admission import new_approval, recheck, requester, subject_of
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.outcomes import cancelled, how_changed, outlasts_absence, own_downstream, unreachable, unrunnable
from holdfast_tools.steps import ENGINE, Steps


class Claims:
    """Claims of one engine, under its `lease`. `unreachable_s`: how long a downstream that is rebuilt is waited for."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        policy: PolicySet,
        downstreams: Mapping[str, Downstream],
        principals: Mapping[tuple[str, str], Principal],
        steps: Steps,
        lease: Lease,
        unreachable_s: float,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._downstreams = downstreams
        self._principals = principals
        self._steps = steps
        self._lease = lease
        self._unreachable_s = unreachable_s

    def may_begin(self, call: Call) -> bool:
        """Whether trying to start it now makes sense; not while it can wait for its downstream to come back."""
        downstream = self._downstreams.get(call.downstream)
        there = downstream is None or downstream.status.state == "connected"
        if call.remote_task is not None and self._catalog.find(call.tool) is not None:
            return True
        return there or not outlasts_absence(call) or (call.cancel_requested and call.remote_task is None)

    async def runnable(self, call: Call) -> Tool | None:
        """The tool of a queued call that may start; else the call was ended or parked, or waits, and it is None."""
        if call.cancel_requested and call.remote_task is None:
            message = "a cancel was asked for while an earlier attempt was under way; it was not tried again"
            await self._steps.end(call, Event.CANCEL, cancelled(message))
            return None
        downstream = own_downstream(call, self._downstreams)
        if downstream is None:
            await self.fail_changed(call)
            return None
        tool = self._catalog.find(call.tool)
        if call.remote_task is not None and tool is not None:
            return tool  # its watch waits for the downstream, for as long as an attempt may take
        if not await downstream.connected(self._unreachable_s):
            if not outlasts_absence(call):
                await self._steps.end(call, Event.FAIL, unreachable(downstream), sent=False)
            return None
        tool = self._catalog.find(call.tool)
        if tool is None:
            message = f"the downstream {call.downstream!r} no longer offers the tool {call.original_name!r}"
            await self._end_unrunnable(call, message)
            return None
        return tool if await self._still_allowed(call, tool) else None

    async def claim(self, call: Call) -> Call | None:
        """Take the lease of the call's next attempt: before anything is sent. None where it cannot be had."""
        result = await self._steps.commit(Claim(call.id, self._lease))
        return result.call if isinstance(result, Moved) else None

    async def fail_changed(self, call: Call) -> None:
        """End a call whose downstream is configured differently, or no more; what is in doubt stays."""
        await self._end_unrunnable(call, how_changed(call, self._downstreams))

    async def _end_unrunnable(self, call: Call, message: str) -> None:
        """Nothing can be sent for `call` any more: it failed, or is in doubt where a remote task may go on."""
        if call.remote_task is None or call.retry_safe:
            await self._steps.end(call, Event.FAIL, unrunnable(call, message), sent=False)
            return
        detail = {"reason": message, "task": call.remote_task.id}
        lost = Move(call.id, Event.LOSE, ENGINE, call.fence, lost=True, note=message, detail=detail)
        await self._steps.take(lost)

    async def _still_allowed(self, call: Call, tool: Tool) -> bool:
        approval_id = call.approval_id
        approval = None
        if approval_id is not None:
            approval = await self._steps.insist(lambda: self._store.get_approval(approval_id))
        decision = self._policy.decide(subject_of(tool, requester(call, self._principals), call.arguments))
        now = recheck(call, tool, decision, approval)
        if now.effect is Effect.DENY:
            await self._steps.end(call, Event.DENY, Outcome(OutcomeKind.DENIED, {"message": now.decision.reason}))
        elif now.effect is Effect.REQUIRE_APPROVAL:
            asked = new_approval(now.decision, call.fingerprint, tool.digest)
            note = now.decision.reason
            await self._steps.take(Move(call.id, Event.PARK, ENGINE, call.fence, approval=asked, note=note))
        return now.effect is Effect.ALLOW
