"""Bugs to plant in the pipeline: the wrong order, the wrong hope, something forgotten."""

import asyncio
from dataclasses import replace
from typing import Any

from simulation.planting import Mutant, Patch

from holdfast_store.contract import Admit, Move, Recover, Renew, WriteResult
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Outcome, OutcomeKind
from holdfast_tools import claims, conclusions, giving_up, runner, scheduler, under_way
from holdfast_tools.catalog import Tool
from holdfast_tools.client import SILENT
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.gate import Place


def commit_after_dispatch() -> tuple[Patch, ...]:
    admit = runner.Runner.admit

    async def eager(
        self: runner.Runner,
        write: Admit,
        tool: Tool,
        place: Place | None = None,
        dispatch: Dispatch | None = None,
    ) -> WriteResult:
        call = write.call
        if dispatch is None and write.lease is not None:
            dispatch = self._downstreams[call.downstream].dispatch(
                call.original_name,
                call.arguments,
                meta={"traceparent": call.traceparent},
                client=SILENT,
                members={},
                read_only=False,
            )
        return await admit(self, write, tool, place, dispatch)

    return ((runner.Runner, "admit", eager),)


def retry_of_a_sent_write() -> tuple[Patch, ...]:
    conclude = conclusions.Conclusions._lost

    async def hopeful(self: conclusions.Conclusions, call: Call, *rest: Any) -> None:
        await conclude(self, replace(call, retry_safe=True), *rest)

    return ((conclusions.Conclusions, "_lost", hopeful),)


def told_before_settled() -> tuple[Patch, ...]:
    settle = conclusions.Conclusions._settle

    async def hasty(self: conclusions.Conclusions, call: Call, event: Event, evidence: Event, outcome: Outcome) -> None:
        state = State.DONE if outcome.kind is OutcomeKind.RESULT else State.FAILED
        self._steps._waiters.notify(replace(call, state=state, outcome=outcome, ended_at=call.updated_at))
        await settle(self, call, event, evidence, outcome)

    return ((conclusions.Conclusions, "_settle", hasty),)


def cancel_withdraws_a_sent_write() -> tuple[Patch, ...]:
    def withdraw(self: giving_up.GivingUp, call: Call, outcome: Outcome) -> bool:
        held = self._slots.get(call.id)
        if held is not None:
            held.withdrawn = outcome
            held.abandon()
        return True

    return ((giving_up.GivingUp, "_withdraw", withdraw),)


def late_evidence_ignores_fences() -> tuple[Patch, ...]:
    async def believe(self: conclusions.Conclusions, call: Call, event: Event, outcome: Outcome) -> None:
        now = await self._steps.insist(lambda: self._steps._store.get_call(call.id)) or call
        await self._steps.take(Move(call.id, event, call.downstream, now.fence, outcome=outcome))

    return ((conclusions.Conclusions, "_give_evidence", believe),)


def late_evidence_is_dropped() -> tuple[Patch, ...]:
    async def drop(self: conclusions.Conclusions, call: Call, dispatch: Dispatch, tool: Tool) -> None:
        await dispatch.outcome

    return ((conclusions.Conclusions, "await_evidence", drop),)


def a_detach_withdraws_what_has_a_handle() -> tuple[Patch, ...]:
    async def withdraw(self: giving_up.GivingUp, call_id: str) -> None:
        call = await self._steps.insist(lambda: self._store.get_call(call_id))
        if call is not None and call.state is State.QUEUED:
            outcome = Outcome(OutcomeKind.CANCELLED, {"message": "its client has gone"})
            await self._steps.take(Move(call_id, Event.CANCEL, call.principal, call.fence, outcome=outcome))

    return ((giving_up.GivingUp, "withdraw_detached", withdraw),)


def policy_is_not_asked_at_the_claim() -> tuple[Patch, ...]:
    async def trusting(self: claims.Claims, call: Call, tool: Tool) -> bool:
        return True

    return ((claims.Claims, "_still_allowed", trusting),)


def a_settle_gives_up_at_a_fault() -> tuple[Patch, ...]:
    async def once(self: conclusions.Conclusions, call: Call, event: Event, evidence: Event, outcome: Outcome) -> None:
        write = Move(call.id, event, call.downstream, call.fence, outcome=outcome)
        try:
            (result,) = await self._steps._store.commit((write,))
        except StoreError:
            return
        self._steps.tell(result)

    return ((conclusions.Conclusions, "_settle", once),)


def a_slot_is_leaked() -> tuple[Patch, ...]:
    return ((under_way.Slots, "drop", lambda self, call_id, held: None),)


def nobody_wakes_the_scheduler() -> tuple[Patch, ...]:
    return ((runner.Runner, "wake", lambda self: None),)


def lease_by_wall_clock() -> tuple[Patch, ...]:
    async def heartbeat(self: scheduler.Scheduler) -> None:
        """Takes over what has run out before it renews its own: a clock that is set loses all."""
        lease = self._runner.lease
        while True:
            await asyncio.sleep(lease.lease_s / 3)
            try:
                await self._store.commit((Recover(lease.owner, takeover=False), Renew(lease)))
            except StoreError:
                continue

    return ((scheduler.Scheduler, "_heartbeat", heartbeat),)


MUTANTS_OF_THE_PIPELINE = (
    Mutant("commit after dispatch", commit_after_dispatch),
    Mutant("retry of a sent write", retry_of_a_sent_write),
    Mutant("told before settled", told_before_settled),
    Mutant("a cancel withdraws a sent write", cancel_withdraws_a_sent_write),
    Mutant("late evidence ignores fences", late_evidence_ignores_fences),
    Mutant("late evidence is dropped", late_evidence_is_dropped),
    Mutant("a detach withdraws what has a handle", a_detach_withdraws_what_has_a_handle),
    Mutant("policy is not asked at the claim", policy_is_not_asked_at_the_claim),
    Mutant("a settle gives up at a fault", a_settle_gives_up_at_a_fault),
    Mutant("a slot is leaked", a_slot_is_leaked),
    Mutant("nobody wakes the scheduler", nobody_wakes_the_scheduler),
    Mutant("lease by wall clock", lease_by_wall_clock),
)
