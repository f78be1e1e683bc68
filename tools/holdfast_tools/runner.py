"""Runs claimed calls: dispatch, wait, settle. The only place from which anything is sent for a stored call.

A call is claimed by a commit before it is sent, and settled by a commit before anybody hears of its outcome. What
was sent and not answered is retried where that is harmless, and in doubt where it is not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Effect
from holdfast_store.contract import (
    Accepted,
    Admit,
    Claim,
    Lease,
    Mark,
    Move,
    Moved,
    Note,
    Stale,
    Store,
    Write,
    WriteResult,
)
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Outcome, OutcomeKind, Principal
from holdfast_tools.admission import dispatched_arguments, new_approval, recheck, requester, subject_of
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.owner import Dispatch, Downstream
from holdfast_tools.settings import READ_TIMEOUT_S, WRITE_TIMEOUT_S
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.runner")

ENGINE = "engine"
"""The actor of what Holdfast does by itself, in the journal."""

T = TypeVar("T")


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
    """A call that is being claimed or run.

    `withdrawn` is how it ends where it was cancelled before anything was sent, or is a read; `put_back` says that it
    was queued again unsent, because the engine stops.
    """

    dispatch: Dispatch | None = None
    withdrawn: Outcome | None = None
    put_back: bool = False

    @property
    def sent(self) -> bool:
        """Whether its request was written, or is about to be."""
        return self.dispatch is not None and self.dispatch.sent

    @property
    def given_up(self) -> bool:
        """Whether nothing more may be sent for it."""
        return self.withdrawn is not None or self.put_back

    def abandon(self) -> None:
        """Stop waiting. What was not sent by now never is."""
        if self.dispatch is not None:
            self.dispatch.abandon()


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
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def lease(self) -> Lease:
        """The lease under which this engine's calls run."""
        return self._lease

    @property
    def free_slots(self) -> int:
        """How many more calls may be under way at once; none once the engine stops."""
        return 0 if self._draining else max(0, self._settings.max_under_way - len(self._under_way))

    def is_under_way(self, call_id: str) -> bool:
        """Whether this engine is running the call now, or about to."""
        return call_id in self._under_way

    def attach(self, tasks: TaskGroup) -> None:
        """Run everything in `tasks`, the engine's own group: never in a request's."""
        self._tasks = tasks

    async def drain(self, timeout_s: float) -> bool:
        """Begin nothing more and wait until nothing is under way; False where `timeout_s` was not enough.

        Then what was not sent yet is queued again, for the next engine; what was sent stays for it to recover.
        """
        self._draining = True
        with anyio.move_on_after(timeout_s):
            await self._idle.wait()
            return True
        for call_id, held in tuple(self._under_way.items()):
            if not held.sent:
                await self._put_back(call_id, held)
        return False

    def wake(self) -> None:
        """Something was queued: have the scheduler look now."""
        self._queued.set()

    async def admit(self, write: Admit, tool: Tool, dispatch: Dispatch | None = None) -> WriteResult:
        """Take a call in and, where that claims it, run it: in the engine's own group, never in the request.

        A caller that goes away drops the answer and nothing else. `dispatch` is a read that is under way already.
        Raises `StoreError` where nothing could be written.
        """
        answer: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()
        held = self._hold(write.call.id, dispatch) if write.lease is not None else None
        self._group.start_soon(self._admit, write, tool, held, answer)
        return await answer

    def begin_queued(self, call: Call) -> bool:
        """Check, claim and run a queued call, in the background.

        False for one that waits for its downstream to come back: it takes up no slot meanwhile.
        """
        downstream = self._downstreams.get(call.downstream)
        there = downstream is None or downstream.status.state == "connected"
        if not there and _outlasts_absence(call) and not call.cancel_requested:
            return False
        self._group.start_soon(self._start_queued, call, self._hold(call.id))
        return True

    async def cancel(self, call: Call, actor: str) -> Call:
        """Withdraw `call` as far as that is honest, and return it as it then stands.

        What was not sent, and reads, are cancelled. A write that was sent is only marked: the downstream is told
        nothing, and the outcome settles as what it was.
        """
        outcome = Outcome(OutcomeKind.CANCELLED, {"message": f"cancelled by {actor}"})
        while not call.ended and call.state is not State.IN_DOUBT:
            if self._withdraw(call, outcome):
                result = await self._commit(Move(call.id, Event.CANCEL, actor, call.fence, outcome=outcome))
            else:
                asked = Note(call.id, "cancel_requested", actor)
                result = await self._commit(Mark(call.id, cancel_requested=True), asked)
            if isinstance(result, Moved):
                self._waiters.notify(result.call)
                return result.call
            if not isinstance(result, Stale) or result.call is None:
                return call
            call = result.call
        return call

    def withdraw_detached(self, call_id: str) -> None:
        """Cancel a call that nobody can ask for any more: never claimed, without key, handle and waiting client."""
        self._group.start_soon(self._withdraw_detached, call_id)

    # --- one call ---------------------------------------------------------------------------------------------

    @property
    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the runner is not attached to a task group")
        return self._tasks

    def _hold(self, call_id: str, dispatch: Dispatch | None = None) -> _UnderWay:
        held = self._under_way[call_id] = _UnderWay(dispatch)
        self._idle.clear()
        return held

    def _release(self, call_id: str) -> None:
        was_full = not self.free_slots
        del self._under_way[call_id]
        if was_full:
            self._queued.set()
        if not self._under_way:
            self._idle.set()

    async def _admit(
        self, write: Admit, tool: Tool, held: _UnderWay | None, answer: asyncio.Future[WriteResult]
    ) -> None:
        try:
            (result,) = await self._store.commit((write,))
        except BaseException as error:
            self._drop(write.call.id, held)
            if not isinstance(error, Exception):
                answer.cancel()
                raise
            if not answer.done():
                answer.set_exception(error)
            return
        detached = answer.cancelled()
        if not detached:
            answer.set_result(result)
        if not isinstance(result, Accepted):
            self._drop(write.call.id, held)
        elif held is not None:
            await self._execute(result.call, tool, held)
        else:
            if detached:
                await self._withdraw_detached(result.call.id)
            self._queued.set()

    def _drop(self, call_id: str, held: _UnderWay | None) -> None:
        """Let go of a slot for a call that was not admitted."""
        if held is not None:
            held.abandon()
            self._release(call_id)

    async def _start_queued(self, call: Call, held: _UnderWay) -> None:
        try:
            claimed = await self._claim(call)
        except BaseException:
            self._release(call.id)
            raise
        if claimed is None:
            self._release(call.id)
            self._queued.set()
            return
        await self._execute(*claimed, held)

    async def _claim(self, call: Call) -> tuple[Call, Tool] | None:
        """Bring a queued call to `running`, or end it; None where there is nothing to run (any more)."""
        if call.cancel_requested:
            message = "a cancel was asked for while an earlier attempt was under way; it was not tried again"
            await self._move(call, Event.CANCEL, Outcome(OutcomeKind.CANCELLED, {"message": message}))
            return None
        downstream = self._downstreams.get(call.downstream)
        if downstream is None or downstream.spec.identity != call.identity:
            await self.fail_changed(call)
            return None
        if not await downstream.connected(self._settings.unreachable_s):
            if not _outlasts_absence(call):
                await self._move(call, Event.FAIL, unreachable(downstream), sent=False)
            return None
        tool = self._catalog.find(call.tool)
        if tool is None:
            message = f"the downstream {call.downstream!r} no longer offers the tool {call.original_name!r}"
            await self._move(call, Event.FAIL, _unrunnable(call, message), sent=False)
            return None
        if not await self._still_allowed(call, tool) or self._draining:
            return None
        result = await self._commit(Claim(call.id, self._lease))
        return (result.call, tool) if isinstance(result, Moved) else None

    async def _still_allowed(self, call: Call, tool: Tool) -> bool:
        approval_id = call.approval_id
        approval = None if approval_id is None else await self._insist(lambda: self._store.get_approval(approval_id))
        decision = self._policy.decide(subject_of(tool, requester(call, self._principals), call.arguments))
        now = recheck(call, tool, decision, approval)
        if now.effect is Effect.DENY:
            await self._move(call, Event.DENY, Outcome(OutcomeKind.DENIED, {"message": now.decision.reason}))
        elif now.effect is Effect.REQUIRE_APPROVAL:
            asked = new_approval(now.decision, call.fingerprint, tool.digest)
            parked = Move(call.id, Event.PARK, ENGINE, call.fence, approval=asked, note=now.decision.reason)
            self._notify(await self._commit(parked))
        return now.effect is Effect.ALLOW

    async def _execute(self, call: Call, tool: Tool, held: _UnderWay) -> None:
        """One claimed attempt, from dispatch to settle; then wait for late evidence where it was lost.

        `tool` is as it was when policy let the call start.
        """
        try:
            attempt = await self._attempt(call, tool, held)
            if held.withdrawn is not None:
                await self._move(call, Event.CANCEL, held.withdrawn)
            elif not held.put_back:
                await self._conclude(call, attempt, tool)
        finally:
            self._release(call.id)
        if isinstance(attempt, Lost) and held.dispatch is not None:
            await self._await_evidence(call, held.dispatch)

    async def _attempt(self, call: Call, tool: Tool, held: _UnderWay) -> Attempt:
        """Dispatch until something was sent or the downstream stays away; wait for the answer or the timeout."""
        downstream = self._downstreams[call.downstream]
        give_up = anyio.current_time() + self._settings.unreachable_s
        attempt: Attempt = NotSent(f"{call.tool} was given up before it was sent")
        pause_s = self._settings.first_backoff_s
        while not held.given_up:
            if held.dispatch is None:
                if self._changed(tool):
                    return NotSent(f"{call.tool} is defined differently than when the call was allowed")
                meta = {"traceparent": call.traceparent} if call.traceparent else {}
                held.dispatch = downstream.dispatch(
                    call.original_name,
                    dispatched_arguments(call, tool),
                    meta=meta,
                    read_only=tool.annotations.read_only,
                )
            attempt = await self._answer(held.dispatch, tool)
            if not isinstance(attempt, NotSent) or anyio.current_time() + pause_s > give_up:
                break
            held.dispatch = None
            await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause_s *= 2
            await downstream.connected(max(0.0, give_up - anyio.current_time()))
        return attempt

    async def _answer(self, dispatch: Dispatch, tool: Tool) -> Attempt:
        timeout_s = _timeout_s(tool)
        done, _ = await asyncio.wait((dispatch.outcome,), timeout=timeout_s)
        if done:
            return dispatch.outcome.result()
        sent = dispatch.sent
        if not sent or tool.annotations.read_only:
            dispatch.abandon()
        if not sent:
            return NotSent(f"the downstream {tool.downstream!r} did not take the request within {timeout_s:g} s")
        return Lost(f"the downstream {tool.downstream!r} did not answer within {timeout_s:g} s")

    async def _conclude(self, call: Call, attempt: Attempt, tool: Tool) -> None:
        """Write down what became of the attempt."""
        match attempt:
            case NotSent(reason):
                await self._conclude_unsent(call, reason, tool)
            case Lost(reason):
                await self._conclude_lost(call, reason)
            case Answered(result={"resultType": "task"}):
                await self._conclude_lost(call, f"{call.downstream} answered with a task of its own, not an outcome")
            case Answered():
                outcome = outcome_of(attempt)
                if outcome.kind is OutcomeKind.RESULT:
                    await self._settle(call, Event.SETTLE, Event.EVIDENCE_DONE, outcome)
                elif call.failures + 1 < tool.settings.max_attempts:
                    await self._retry(call, outcome.message, lost=False)
                else:
                    await self._settle(call, Event.FAIL, Event.EVIDENCE_FAILED, outcome)

    async def _conclude_unsent(self, call: Call, reason: str, tool: Tool) -> None:
        if call.execute_by is not None or self._changed(tool):
            await self._retry(call, reason, lost=False, sent=False)
        else:
            await self._move(call, Event.FAIL, _unrunnable(call, reason), sent=False)

    async def _conclude_lost(self, call: Call, reason: str) -> None:
        if not call.retry_safe:
            lost = Move(call.id, Event.LOSE, ENGINE, call.fence, lost=True, note=reason, detail={"reason": reason})
            self._notify(await self._commit(lost))
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
            await self._give_evidence(call, evidence, outcome)
        self._notify(result)

    async def _await_evidence(self, call: Call, dispatch: Dispatch) -> None:
        """The answer of a lost attempt may still come, until its session ends."""
        late = await dispatch.outcome
        if isinstance(late, Answered):
            outcome = outcome_of(late)
            done = outcome.kind is OutcomeKind.RESULT
            await self._give_evidence(call, Event.EVIDENCE_DONE if done else Event.EVIDENCE_FAILED, outcome)

    async def _give_evidence(self, call: Call, event: Event, outcome: Outcome) -> None:
        result = await self._commit(Move(call.id, event, call.downstream, call.fence, outcome=outcome))
        if isinstance(result, Stale):
            await self._commit(Note(call.id, "late_answer_ignored", call.downstream, {"attempt": call.fence}))
        self._notify(result)

    # --- giving up --------------------------------------------------------------------------------------------

    def _withdraw(self, call: Call, outcome: Outcome) -> bool:
        """Whether `call` may be cancelled as it stands; then nothing is sent for it from now on."""
        if call.state is not State.RUNNING:
            return True
        held = self._under_way.get(call.id)
        if held is None or (held.sent and not self._is_read(call)):
            return False
        held.withdrawn = outcome
        held.abandon()
        return True

    async def _withdraw_detached(self, call_id: str) -> None:
        if self._waiters.waited_for(call_id):
            return
        seen = await self._commit(Mark(call_id))  # unlike a read it comes after all that is being committed now
        call = seen.call if isinstance(seen, Moved) else None
        if call is None or call.state is not State.QUEUED or call.fence or call.key is not None:
            return
        if call.handled or call.approval_id is not None:  # what was parked was answered with a handle
            return
        outcome = Outcome(OutcomeKind.CANCELLED, {"message": "cancelled by its client's disconnect", "detached": True})
        self._notify(await self._commit(Move(call_id, Event.CANCEL, call.principal, call.fence, outcome=outcome)))

    async def _put_back(self, call_id: str, held: _UnderWay) -> None:
        """Queue a claimed call again that was not sent. Tried once; else the next engine has to take it for lost."""
        held.put_back = True
        held.abandon()
        try:
            (seen,) = await self._store.commit((Mark(call_id),))
            if isinstance(seen, Moved) and seen.call.state is State.RUNNING:
                detail = {"reason": "the engine stopped before it was sent"}
                unsent = Move(call_id, Event.RETRY, ENGINE, seen.call.fence, sent=False, detail=detail)
                await self._store.commit((unsent,))
        except StoreError as error:
            log.error("a call could not be queued again", extra={"call": call_id, "error": str(error)})

    # --- writing ----------------------------------------------------------------------------------------------

    async def fail_changed(self, call: Call) -> None:
        """End a call whose downstream is configured differently, or no more; what is in doubt stays."""
        downstream = self._downstreams.get(call.downstream)
        now = downstream.spec.identity if downstream is not None else "not configured"
        message = f"the downstream {call.downstream!r} changed: it was {call.identity}, it is {now}"
        await self._move(call, Event.FAIL, _unrunnable(call, message), sent=False)

    async def _move(self, call: Call, event: Event, outcome: Outcome, *, lost: bool = False, sent: bool = True) -> None:
        write = Move(call.id, event, ENGINE, call.fence, outcome=outcome, lost=lost, sent=sent)
        self._notify(await self._commit(write))

    def _notify(self, result: WriteResult) -> None:
        if isinstance(result, Moved):
            self._waiters.notify(result.call)

    async def _commit(self, *writes: Write) -> WriteResult:
        """Commit `writes` together, whatever it takes; answers for the first."""
        results = await self._insist(lambda: self._store.commit(writes))
        return results[0]

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long its trouble lasts: what happened must not be forgotten."""
        pause_s = 0.05
        while True:
            try:
                return await ask()
            except StoreError as error:
                log.error("the store is in trouble and is asked again", extra={"error": str(error), "pause_s": pause_s})
            await anyio.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)

    def _changed(self, tool: Tool) -> bool:
        """Whether the tool is gone, or defined differently by now."""
        now = self._catalog.find(tool.canonical)
        return now is None or now.digest != tool.digest

    def _is_read(self, call: Call) -> bool:
        tool = self._catalog.find(call.tool)
        return tool is not None and tool.annotations.read_only


def was_detached(call: Call) -> bool:
    """Whether the call was withdrawn, unsent, because its client went away: whoever joined it must run its own."""
    return call.outcome is not None and call.outcome.payload.get("detached") is True


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


def _outlasts_absence(call: Call) -> bool:
    """Whether the call waits for its downstream to come back: approved, or claimed before. Others fail soon."""
    return call.execute_by is not None or call.fence > 0


def _unrunnable(call: Call, message: str) -> Outcome:
    """The end of a call that cannot be sent (again)."""
    sent_before = call.failures + call.losses > 0
    return Outcome(OutcomeKind.ERROR if sent_before else OutcomeKind.UNREACHABLE, {"message": message})


def unreachable(downstream: Downstream) -> Outcome:
    """The outcome of a call that could not be sent: the downstream, why, and what it said last on stderr."""
    status = downstream.status
    lines = "".join(f"\n  {line}" for line in status.stderr_tail[-5:])
    shown = f"; its last lines on stderr:{lines}" if lines else ""
    message = f"the downstream {downstream.spec.name!r} cannot be reached ({status.reason or status.state}){shown}"
    return Outcome(OutcomeKind.UNREACHABLE, {"message": message})
