"""What became of an attempt, written down: settled, asked, queued again, in doubt; or late evidence of a lost one."""

import asyncio
import logging
import random
from collections.abc import Mapping

import anyio

from holdfast_store.contract import Answer, Move, Moved, Note, Stale
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import Call, Json, Outcome, OutcomeKind, Round
from holdfast_tools.attempts import is_redefined
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.giving_up import GivingUp
from holdfast_tools.outcomes import failure, outcome_of, unrunnable
from holdfast_tools.output import checked
from holdfast_tools.remote.asking import remote_task_of
from holdfast_tools.remote.leftovers import Leftovers
from holdfast_tools.rounds import asks, asks_nothing, goes_on, question, round_of, undeclared
from holdfast_tools.settings import RunnerSettings
from holdfast_tools.steps import ENGINE, Steps
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.runner")

MOST_ROUNDS_UNASKED = 20
"""How often a downstream may want a call again without asking anything."""


class Conclusions:
    """Writes down what became of attempts. Sets `queued` whenever a call was queued again."""

    def __init__(
        self,
        catalog: Catalog,
        downstreams: Mapping[str, Downstream],
        waiters: Waiters,
        steps: Steps,
        giving_up: GivingUp,
        leftovers: Leftovers,
        queued: asyncio.Event,
        settings: RunnerSettings,
    ) -> None:
        self._catalog = catalog
        self._downstreams = downstreams
        self._waiters = waiters
        self._steps = steps
        self._giving_up = giving_up
        self._leftovers = leftovers
        self._queued = queued
        self.settings = settings

    async def conclude(self, call: Call, attempt: Attempt, tool: Tool) -> Call | None:
        """Write down what became of the attempt. Answers a call that is to `call_again`."""
        if asks(attempt) and isinstance(attempt, Answered):
            return await self._asked(call, attempt.result or {})
        await self._ended(call, attempt, tool)
        return None

    async def call_again(self, call: Call) -> None:
        """After a pause, send again what its downstream wants to be sent again, though it asked nothing."""
        if call.round is not None:
            await anyio.sleep(self._pause_s(call.round.number))
            await self._steps.take(Answer(call.id, call.round.number, ENGINE, {}, final=True))
            self._queued.set()

    async def _ended(self, call: Call, attempt: Attempt, tool: Tool) -> None:
        match attempt:
            case NotSent():
                await self._unsent(call, attempt, tool)
            case Lost(reason):
                await self._lost(call, reason)
            case Answered(core_task=True) | Answered(result={"resultType": "task"}):
                await self._lost(call, f"{call.downstream} made a task of it and did not say which")
            case Answered():
                answer = outcome_of(attempt)
                outcome = checked(tool, answer)
                if outcome.kind is OutcomeKind.RESULT:
                    await self._settle(call, Event.SETTLE, Event.EVIDENCE_DONE, outcome)
                elif answer.kind is OutcomeKind.RESULT or call.failures + 1 >= tool.settings.max_attempts:
                    await self._settle(call, Event.FAIL, Event.EVIDENCE_FAILED, outcome)
                elif (refused := self._over_budget(call)) is not None:
                    await self._settle(call, Event.FAIL, Event.EVIDENCE_FAILED, outcome, {"retry_budget": refused})
                else:
                    await self._retry(call, outcome.message, lost=False)

    async def await_evidence(self, call: Call, dispatch: Dispatch, tool: Tool) -> None:
        """The answer of a lost attempt may still come, until its session ends."""
        may_come = not dispatch.outcome.done()
        dispatch.lose()
        late = await dispatch.outcome
        if isinstance(late, Lost) and may_come and not call.retry_safe:
            detail = {"attempt": call.fence, "reason": late.reason}
            await self._steps.commit(Note(call.id, "evidence_given_up", ENGINE, detail))
        if isinstance(late, Answered) and goes_on(late):
            await self._left_open(call, late)
        elif isinstance(late, Answered):
            outcome = checked(tool, outcome_of(late))
            done = outcome.kind is OutcomeKind.RESULT
            await self._give_evidence(call, Event.EVIDENCE_DONE if done else Event.EVIDENCE_FAILED, outcome)

    async def _left_open(self, call: Call, late: Answered) -> None:
        """The late answer is no outcome but a task or a question: it clears no doubt, and nobody follows it."""
        task = remote_task_of(late)
        if task is None:
            await self._steps.commit(Note(call.id, "late_answer_ignored", call.downstream, {"attempt": call.fence}))
            return
        detail = {"attempt": call.fence, "task": task.id}
        log.warning("a lost call turns out to be a task of its downstream", extra={"call": call.id, **detail})
        await self._steps.commit(Note(call.id, "late_task", call.downstream, detail))
        self._leftovers.forget(call, task)

    async def _asked(self, call: Call, result: Json) -> Call | None:
        """The downstream wants input: let the requester answer, where it said that it can.

        Answers a call of which the downstream wants nothing but to get it again, where no client can see to that.
        """
        asked = round_of(result, call)
        lacking = undeclared(asked.requests, ClientProfile.from_json(call.client)) if asked is not None else ()
        if asked is None:
            await self._fail(call, f"{call.downstream} asked for input in a way that makes no sense")
        elif lacking:
            names = ", ".join(lacking)
            await self._fail(call, f"{call.downstream} asked the client for what it did not declare: {names}")
        elif not asked.requests and asked.number > MOST_ROUNDS_UNASKED:
            await self._fail(call, f"{call.downstream} wanted the call again {asked.number} times, and never ended it")
        else:
            return await self._ask(call, asked)
        return None

    async def _ask(self, call: Call, asked: Round) -> Call | None:
        write = Move(
            call.id,
            Event.ASK,
            call.downstream,
            call.fence,
            round=asked,
            delay_s=self.settings.answer_within_s,
            note=question(asked),
        )
        moved = await self._steps.commit(write)
        if isinstance(moved, Moved) and moved.call.cancel_requested:
            await self._ask_nobody(moved.call)
            return None
        self._steps.tell(moved)
        if not isinstance(moved, Moved) or not asks_nothing(moved.call) or self._waiters.come_again(call.id):
            return None
        return moved.call

    async def _ask_nobody(self, call: Call) -> None:
        """End `call`, which asks for input after its cancel. Its attempt is over: only a remote task can go on."""
        if call.remote_task is None:
            await self._giving_up.cancel(call, ENGINE)
        else:
            await self._giving_up.fail_unanswered(call, "the call was cancelled")

    async def _unsent(self, call: Call, attempt: NotSent, tool: Tool) -> None:
        """Queue what may wait; also what is overdue, because only in the queue time ends it."""
        if call.execute_by is not None or attempt.overdue or is_redefined(tool, self._catalog):
            await self._retry(call, attempt.reason, lost=False, sent=False)
        else:
            await self._steps.end(call, Event.FAIL, unrunnable(call, attempt.reason), sent=False)

    async def _lost(self, call: Call, reason: str) -> None:
        if not call.retry_safe:
            detail = {"reason": reason}
            await self._steps.take(Move(call.id, Event.LOSE, ENGINE, call.fence, lost=True, note=reason, detail=detail))
        elif call.losses + 1 >= self.settings.max_losses:
            message = f"{reason}; {call.losses + 1} attempts were lost"
            await self._steps.end(call, Event.FAIL, failure(message), lost=True)
        elif (refused := self._over_budget(call)) is not None:
            outcome, detail = failure(f"{reason}; {refused}"), {"retry_budget": refused}
            end = Move(call.id, Event.FAIL, ENGINE, call.fence, outcome=outcome, lost=True, detail=detail)
            await self._steps.take(end)
        else:
            await self._retry(call, reason, lost=True)

    def _over_budget(self, call: Call) -> str | None:
        """Why what was sent may not be sent again, where its downstream's retries are used up; else takes one."""
        downstream = self._downstreams.get(call.downstream)
        if downstream is None or downstream.gate.may_retry():
            return None
        return downstream.gate.why_no_retry

    async def _retry(self, call: Call, reason: str, *, lost: bool, sent: bool = True) -> None:
        """Queue another attempt after a pause with full jitter (Brooker, "Exponential Backoff And Jitter")."""
        delay_s = self._pause_s(call.fence)
        detail = {"reason": reason, "delay_s": round(delay_s, 3)}
        await self._steps.take(
            Move(call.id, Event.RETRY, ENGINE, call.fence, delay_s=delay_s, lost=lost, sent=sent, detail=detail)
        )
        self._queued.set()

    def _pause_s(self, times: int) -> float:
        ceiling = min(self.settings.longest_backoff_s, self.settings.first_backoff_s * 2 ** min(times, 16))
        return random.uniform(0.0, ceiling)  # noqa: S311 - jitter, not a secret

    async def _fail(self, call: Call, message: str) -> None:
        await self._settle(call, Event.FAIL, Event.EVIDENCE_FAILED, failure(message))

    async def _settle(
        self, call: Call, event: Event, evidence: Event, outcome: Outcome, detail: Json | None = None
    ) -> None:
        """Settle the attempt; where the call was already taken for lost, the answer is evidence."""
        end = Move(call.id, event, call.downstream, call.fence, outcome=outcome, detail=detail or {})
        result = await self._steps.commit(end)
        if isinstance(result, Stale):
            await self._give_evidence(call, evidence, outcome)
        self._steps.tell(result)

    async def _give_evidence(self, call: Call, event: Event, outcome: Outcome) -> None:
        result = await self._steps.commit(Move(call.id, event, call.downstream, call.fence, outcome=outcome))
        if isinstance(result, Stale):
            await self._steps.commit(Note(call.id, "late_answer_ignored", call.downstream, {"attempt": call.fence}))
        self._steps.tell(result)
