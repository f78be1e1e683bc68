"""Runs claimed calls: dispatch, wait, settle. The only place from which anything is sent for a stored call.

A call is claimed by a commit before it is sent, and settled by a commit before anybody hears of its outcome. What
was sent and not answered is retried where that is harmless, and in doubt where it is not.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Effect, Subject
from holdfast_store.contract import Claim, Lease, Mark, Move, Moved, Note, Stale, Store, Write, WriteResult
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Outcome, OutcomeKind, Principal
from holdfast_tools.admission import dispatched_arguments, new_approval, recheck
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.owner import Dispatch, Downstream
from holdfast_tools.settings import READ_TIMEOUT_S, WRITE_TIMEOUT_S
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.runner")

ENGINE = "engine"
"""The actor of what Holdfast does by itself, in the journal."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Limits of running. `unreachable_s`: how long a call waits for a downstream that is being rebuilt."""

    lease_s: float = 30.0
    max_losses: int = 3
    max_under_way: int = 512
    unreachable_s: float = 5.0
    first_backoff_s: float = 0.2
    longest_backoff_s: float = 30.0


@dataclass(slots=True)
class _UnderWay:
    call: Call
    dispatch: Dispatch | None = None
    abandoned: bool = False


class Runner:
    """The attempts of this engine. Sets `queued` whenever a call was queued again."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        policy: PolicySet,
        downstreams: Mapping[str, Downstream],
        principals: Mapping[tuple[str, str], Principal],
        waiters: Waiters,
        queued: asyncio.Event,
        owner: str,
        settings: RunnerSettings | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._downstreams = downstreams
        self._principals = principals
        self._waiters = waiters
        self._queued = queued
        self._settings = settings or RunnerSettings()
        self._lease = Lease(owner, self._settings.lease_s)
        self._under_way: dict[str, _UnderWay] = {}
        self._tasks: TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def lease(self) -> Lease:
        """The lease under which this engine's calls run."""
        return self._lease

    @property
    def free_slots(self) -> int:
        """How many more calls may be under way at once."""
        return max(0, self._settings.max_under_way - len(self._under_way))

    def is_under_way(self, call_id: str) -> bool:
        """Whether this engine is running the call now, or about to."""
        return call_id in self._under_way

    def attach(self, tasks: TaskGroup) -> None:
        """Run everything in `tasks`, the engine's own group: never in a request's."""
        self._tasks = tasks

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; False where `timeout_s` was not enough."""
        with anyio.move_on_after(timeout_s):
            await self._idle.wait()
            return True
        return False

    def wake(self) -> None:
        """Something was queued: have the scheduler look now."""
        self._queued.set()

    def begin(self, call: Call) -> None:
        """Run a call that was just claimed (its state is `running`)."""
        self._spawn(call, None)

    def adopt(self, call: Call, dispatch: Dispatch) -> None:
        """Go on with a read that was dispatched before it was admitted."""
        self._spawn(call, dispatch)

    def begin_queued(self, call: Call) -> None:
        """Check, claim and run a queued call, in the background."""
        self._hold(call)
        self._group.start_soon(self._start_queued, call)

    async def cancel(self, call: Call, actor: str) -> Call:
        """Withdraw `call` as far as that is honest, and return it as it then stands.

        What was not sent, and reads, are cancelled. A write that was sent is only marked: the downstream is told
        nothing, and the outcome settles as what it was.
        """
        outcome = Outcome(OutcomeKind.CANCELLED, {"message": f"cancelled by {actor}"})
        under_way = self._under_way.get(call.id)
        dispatch = under_way.dispatch if under_way is not None else None
        if call.state is not State.RUNNING:
            write: Write = Move(call.id, Event.CANCEL, actor, outcome=outcome)
        elif under_way is not None and ((dispatch is None or not dispatch.sent) or self._is_read(call)):
            under_way.abandoned = True
            if dispatch is not None:
                dispatch.abandon()
            write = Move(call.id, Event.CANCEL, actor, fence=call.fence, outcome=outcome)
        else:
            write = Mark(call.id, cancel_requested=True)
        result = await self._commit(write)
        if isinstance(result, Moved):
            self._waiters.notify(result.call)
            return result.call
        return result.call if isinstance(result, Stale) and result.call is not None else call

    def withdraw_detached(self, call_id: str) -> None:
        """Cancel a call that nobody can ever ask for again: still queued, without key and handle."""
        self._group.start_soon(self._withdraw_detached, call_id)

    # --- one call ---------------------------------------------------------------------------------------------

    @property
    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the runner is not attached to a task group")
        return self._tasks

    def _hold(self, call: Call) -> _UnderWay:
        held = self._under_way[call.id] = _UnderWay(call)
        self._idle.clear()
        return held

    def _release(self, call_id: str) -> None:
        was_full = not self.free_slots
        self._under_way.pop(call_id, None)
        if was_full:
            self._queued.set()
        if not self._under_way:
            self._idle.set()

    def _spawn(self, call: Call, dispatch: Dispatch | None) -> None:
        self._hold(call).dispatch = dispatch
        self._group.start_soon(self._execute, call)

    async def _start_queued(self, call: Call) -> None:
        try:
            claimed = await self._claim(call)
        except BaseException:
            self._release(call.id)
            raise
        if claimed is None:
            self._release(call.id)
            self._queued.set()
            return
        self._under_way[call.id].call = claimed
        await self._execute(claimed)

    async def _claim(self, call: Call) -> Call | None:
        """Bring a queued call to `running`, or end it; None where there is nothing to run (any more)."""
        downstream = self._downstreams.get(call.downstream)
        if downstream is None or downstream.spec.identity != call.identity:
            await self.fail_changed(call)
            return None
        if not await downstream.connected(self._settings.unreachable_s):
            if call.execute_by is None and call.fence == 0:
                await self._move(call, Event.FAIL, _unreachable(downstream), sent=False)
            return None
        tool = self._catalog.find(call.tool)
        if tool is None:
            message = f"the downstream {call.downstream!r} no longer offers the tool {call.original_name!r}"
            await self._move(call, Event.FAIL, Outcome(OutcomeKind.UNREACHABLE, {"message": message}), sent=False)
            return None
        if not await self._still_allowed(call, tool):
            return None
        result = await self._commit(Claim(call.id, self._lease))
        return result.call if isinstance(result, Moved) else None

    async def _still_allowed(self, call: Call, tool: Tool) -> bool:
        approval = await self._store.get_approval(call.approval_id) if call.approval_id is not None else None
        principal = self._principals.get((call.tenant, call.principal), Principal(call.principal, tenant=call.tenant))
        subject = Subject(tool.canonical, tool.downstream, tool.annotations, principal, call.arguments, tool.misfits)
        now = recheck(call, tool, self._policy.decide(subject), approval)
        if now.effect is Effect.DENY:
            await self._move(call, Event.DENY, Outcome(OutcomeKind.DENIED, {"message": now.decision.reason}))
        elif now.effect is Effect.REQUIRE_APPROVAL:
            asked = new_approval(now.decision, call.fingerprint, tool.digest)
            result = await self._commit(Move(call.id, Event.PARK, ENGINE, approval=asked, note=now.decision.reason))
            self._notify(result)
        return now.effect is Effect.ALLOW

    async def _execute(self, call: Call) -> None:
        """One claimed attempt, from dispatch to settle; then wait for late evidence where it was lost."""
        tool = self._catalog.find(call.tool)
        try:
            attempt = await self._attempt(call, tool)
            held = self._under_way[call.id]
            if not held.abandoned:
                await self._conclude(call, attempt, tool)
        finally:
            dispatch = self._under_way[call.id].dispatch
            self._release(call.id)
        if isinstance(attempt, Lost) and dispatch is not None and not dispatch.outcome.done():
            await self._await_evidence(call, dispatch)

    async def _attempt(self, call: Call, tool: Tool | None) -> Attempt:
        """Dispatch until something was sent or the downstream stays away; wait for the answer or the timeout."""
        held = self._under_way[call.id]
        downstream = self._downstreams[call.downstream]
        give_up = anyio.current_time() + self._settings.unreachable_s
        attempt: Attempt = NotSent(f"the downstream {call.downstream!r} no longer offers {call.original_name!r}")
        pause_s = self._settings.first_backoff_s
        while tool is not None and not held.abandoned:
            if held.dispatch is None:
                meta = {"traceparent": call.traceparent} if call.traceparent else {}
                held.dispatch = downstream.dispatch(
                    call.original_name,
                    dispatched_arguments(call, tool),
                    meta=meta,
                    read_only=tool.annotations.read_only,
                )
            attempt = await self._answer(held.dispatch, _timeout_s(tool), tool)
            if not isinstance(attempt, NotSent) or anyio.current_time() + pause_s > give_up:
                break
            held.dispatch = None
            await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause_s *= 2
            await downstream.connected(max(0.0, give_up - anyio.current_time()))
        return attempt

    async def _answer(self, dispatch: Dispatch, timeout_s: float, tool: Tool) -> Attempt:
        done, _ = await asyncio.wait((dispatch.outcome,), timeout=timeout_s)
        if done:
            return dispatch.outcome.result()
        if tool.annotations.read_only:
            dispatch.abandon()
        return Lost(f"the downstream {tool.downstream!r} did not answer within {timeout_s:g} s")

    async def _conclude(self, call: Call, attempt: Attempt, tool: Tool | None) -> None:
        """Write down what became of the attempt."""
        match attempt:
            case NotSent(reason):
                await self._conclude_unsent(call, reason)
            case Lost(reason):
                await self._conclude_lost(call, reason)
            case Answered():
                outcome = outcome_of(attempt)
                if outcome.kind is OutcomeKind.RESULT:
                    await self._settle(call, Event.SETTLE, Event.EVIDENCE_DONE, outcome)
                elif tool is not None and call.failures + 1 < tool.settings.max_attempts:
                    await self._retry(call, outcome.message, lost=False)
                else:
                    await self._settle(call, Event.FAIL, Event.EVIDENCE_FAILED, outcome)

    async def _conclude_unsent(self, call: Call, reason: str) -> None:
        if call.execute_by is not None:
            await self._retry(call, reason, lost=False, sent=False)
            return
        kind = OutcomeKind.UNREACHABLE if call.losses == call.failures == 0 else OutcomeKind.ERROR
        await self._move(call, Event.FAIL, Outcome(kind, {"message": reason}), sent=False)

    async def _conclude_lost(self, call: Call, reason: str) -> None:
        if not call.retry_safe:
            result = await self._commit(
                Move(call.id, Event.LOSE, ENGINE, fence=call.fence, lost=True, note=reason, detail={"reason": reason})
            )
            self._notify(result)
        elif call.losses + 1 < self._settings.max_losses:
            await self._retry(call, reason, lost=True)
        else:
            message = f"{reason}; {call.losses + 1} attempts were lost"
            await self._move(call, Event.FAIL, Outcome(OutcomeKind.ERROR, {"message": message}), lost=True)

    async def _retry(self, call: Call, reason: str, *, lost: bool, sent: bool = True) -> None:
        """Queue another attempt after a pause with full jitter (Brooker, "Exponential Backoff And Jitter")."""
        ceiling = min(self._settings.longest_backoff_s, self._settings.first_backoff_s * 2 ** min(call.fence, 16))
        delay_s = random.uniform(0.0, ceiling)  # noqa: S311 - jitter, not a secret
        detail = {"reason": reason, "delay_s": round(delay_s, 3)}
        result = await self._commit(
            Move(call.id, Event.RETRY, ENGINE, call.fence, delay_s=delay_s, lost=lost, sent=sent, detail=detail)
        )
        self._notify(result)
        self._queued.set()

    async def _settle(self, call: Call, event: Event, evidence: Event, outcome: Outcome) -> None:
        """Settle the attempt; where the call was already taken for lost, the answer is evidence."""
        result = await self._commit(Move(call.id, event, call.downstream, call.fence, outcome=outcome))
        if isinstance(result, Stale):
            result = await self._commit(Move(call.id, evidence, call.downstream, call.fence, outcome=outcome))
        if isinstance(result, Stale):
            await self._commit(Note(call.id, "late_answer_ignored", call.downstream, {"attempt": call.fence}))
        self._notify(result)

    async def _await_evidence(self, call: Call, dispatch: Dispatch) -> None:
        """The answer of a lost attempt may still come, until its session ends."""
        late = await dispatch.outcome
        if isinstance(late, Answered):
            outcome = outcome_of(late)
            event = Event.EVIDENCE_DONE if outcome.kind is OutcomeKind.RESULT else Event.EVIDENCE_FAILED
            await self._settle(call, event, event, outcome)

    # --- writing ----------------------------------------------------------------------------------------------

    async def fail_changed(self, call: Call) -> None:
        """End a call whose downstream is configured differently, or no more; what is in doubt stays."""
        downstream = self._downstreams.get(call.downstream)
        now = downstream.spec.identity if downstream is not None else "not configured"
        message = f"the downstream {call.downstream!r} changed: it was {call.identity}, it is {now}; nothing was sent"
        await self._move(call, Event.FAIL, Outcome(OutcomeKind.UNREACHABLE, {"message": message}), sent=False)

    async def _move(self, call: Call, event: Event, outcome: Outcome, *, lost: bool = False, sent: bool = True) -> None:
        fence = call.fence if call.state is State.RUNNING else None
        result = await self._commit(Move(call.id, event, ENGINE, fence, outcome=outcome, lost=lost, sent=sent))
        self._notify(result)

    async def _withdraw_detached(self, call_id: str) -> None:
        call = await self._store.get_call(call_id)
        if call is not None and call.state is State.QUEUED and call.key is None and not call.handled:
            await self.cancel(call, "the client's disconnect")

    def _notify(self, result: WriteResult) -> None:
        if isinstance(result, Moved):
            self._waiters.notify(result.call)

    async def _commit(self, write: Write) -> WriteResult:
        """Commit `write` however long the store's trouble lasts: what happened must not be forgotten."""
        pause_s = 0.05
        while True:
            try:
                (result,) = await self._store.commit((write,))
            except StoreError as error:
                log.error("a commit failed and is tried again", extra={"error": str(error), "pause_s": pause_s})
                await anyio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
            else:
                return result

    def _is_read(self, call: Call) -> bool:
        tool = self._catalog.find(call.tool)
        return tool is not None and tool.annotations.read_only


def outcome_of(answer: Answered) -> Outcome:
    """The outcome that a downstream's answer amounts to."""
    if answer.error is not None:
        return Outcome(OutcomeKind.RPC_ERROR, answer.error)
    result = answer.result or {}
    kind = result.get("resultType", "complete")
    if kind != "complete":
        message = f"the downstream answered with {kind!r}, which this version does not pass on"
        return Outcome(OutcomeKind.ERROR, {"message": message})
    return Outcome(OutcomeKind.TOOL_ERROR if result.get("isError") else OutcomeKind.RESULT, result)


def _timeout_s(tool: Tool) -> float:
    default = READ_TIMEOUT_S if tool.annotations.read_only else WRITE_TIMEOUT_S
    return tool.settings.timeout_s if tool.settings.timeout_s is not None else default


def _unreachable(downstream: Downstream) -> Outcome:
    status = downstream.status
    lines = "".join(f"\n  {line}" for line in status.stderr_tail[-5:])
    shown = f"; its last lines on stderr:{lines}" if lines else ""
    message = f"the downstream {downstream.spec.name!r} cannot be reached ({status.reason or status.state}){shown}"
    return Outcome(OutcomeKind.UNREACHABLE, {"message": message})
