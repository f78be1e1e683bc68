"""One claimed attempt: dispatched until something was sent, answered or watched, and asked back on the way."""

import asyncio
import math
import random
from collections.abc import Mapping
from dataclasses import replace

import anyio

from holdfast_store.contract import Answer, Follow, Mark, Move, Moved, Stale
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, RemoteTask, Round
from holdfast_tools.admission import dispatched_arguments, holder_of
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Attempt, Lost, NotSent
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.giving_up import GivingUp
from holdfast_tools.outcomes import cancelled, how_changed, own_downstream, timeout_s
from holdfast_tools.questions import Questions
from holdfast_tools.remote.asking import Cancelled, remote_task_of
from holdfast_tools.remote.core import asked_as_task
from holdfast_tools.remote.leftovers import Leftovers
from holdfast_tools.remote.watch import Left, Watch, asker, dialect_of
from holdfast_tools.rounds import asks, carried, question
from holdfast_tools.settings import RunnerSettings
from holdfast_tools.steps import ENGINE, Steps
from holdfast_tools.under_way import Slots, UnderWay
from holdfast_tools.waiters import Waiters


def is_redefined(tool: Tool, catalog: Catalog) -> bool:
    """Whether the tool is gone by now, or defined differently."""
    now = catalog.find(tool.canonical)
    return now is None or now.digest != tool.digest


class Attempts:
    """Makes attempts. What becomes of one is for others to write down; only tasks and rounds are kept on the way."""

    def __init__(
        self,
        catalog: Catalog,
        downstreams: Mapping[str, Downstream],
        waiters: Waiters,
        steps: Steps,
        slots: Slots,
        giving_up: GivingUp,
        leftovers: Leftovers,
        settings: RunnerSettings,
    ) -> None:
        self._catalog = catalog
        self._downstreams = downstreams
        self._waiters = waiters
        self._steps = steps
        self._slots = slots
        self._giving_up = giving_up
        self._leftovers = leftovers
        self.settings = settings
        self._watching: dict[asyncio.Future[None], tuple[Downstream, Watch]] = {}

    async def part(self, downstream: Downstream) -> None:
        """`downstream` leaves the config: wait until no task of it is watched any more.

        Cancelled, watching ends there, as it does at once where the same one takes its place: it goes on at that.
        """
        left = {over: watch for over, (where, watch) in self._watching.items() if where is downstream}
        successor = self._downstreams.get(downstream.spec.name)
        replaced = successor is not None and successor.spec.identity == downstream.spec.identity
        try:
            if left and not replaced:
                await asyncio.wait(left)
        finally:
            for watch in left.values():
                watch.leave()

    async def make(self, call: Call, tool: Tool, held: UnderWay) -> Attempt:
        """Dispatch the call, or watch what the downstream made of it before: a task of its own."""
        if call.remote_task is not None:
            return await self._watch(call, tool, held)
        attempt = await self._dispatch(call, tool, held)
        task = remote_task_of(attempt)
        if task is None:
            return attempt
        if held.given_up:
            self._leftovers.cancel(call, task)
            return attempt
        self._slots.leave_place(held, attempt)
        task = replace(task, after_round=call.round.number if call.round is not None else 0)
        followed = await self._steps.take(Follow(call.id, call.fence, call.downstream, task))
        if not isinstance(followed, Moved):
            now = followed.call if isinstance(followed, Stale) else None
            if now is None or now.state is not State.IN_DOUBT:  # whoever resolves a doubt wants to see what it became
                self._leftovers.cancel(call, task)
            return Lost(f"{call.downstream} made a task of it, after it had been given up")
        return await self._watch(followed.call, tool, held)

    async def _watch(self, call: Call, tool: Tool, held: UnderWay) -> Attempt:
        """Watch the downstream's task of `call` until it has ended or asks for input."""
        self._slots.step_aside(call.id)
        found: Attempt | Cancelled | Left = Left()
        while isinstance(found, Left) and not held.given_up:
            downstream = own_downstream(call, self._downstreams)
            if downstream is None:
                return Lost(how_changed(call, self._downstreams))
            found = await self._watch_at(downstream, call, tool, held)
            if isinstance(found, Left) and isinstance(seen := await self._steps.commit(Mark(call.id)), Moved):
                call = seen.call
        match found:
            case Cancelled(reason):
                held.withdrawn = cancelled(reason)
                return Lost(reason)
            case Left():
                if held.withdrawn is not None and call.remote_task is not None:
                    self._leftovers.cancel(call, call.remote_task)
                return NotSent("it was left to the next engine")
            case _:
                return found

    async def _watch_at(
        self, downstream: Downstream, call: Call, tool: Tool, held: UnderWay
    ) -> Attempt | Cancelled | Left:
        """Watch it at `downstream` as that is now; left where another takes its place."""
        task = call.remote_task
        if task is None:
            raise TypeError(f"the downstream made no task of {call.id}")

        async def keep(task: RemoteTask) -> None:
            await self._steps.commit(Follow(call.id, call.fence, call.downstream, task))

        own = call.round if call.round is not None and call.round.number > task.after_round else None
        ask = asker(downstream, task, ClientProfile.from_json(call.client), holder_of(call))
        answers, on_ask = own.answers if own is not None else {}, self._questions(call, held).ask
        dialect = dialect_of(downstream, task, ask, answers, keep, on_ask)
        held.dispatch, held.watch = None, Watch(downstream, dialect, timeout_s(tool))
        if call.cancel_requested or held.cancel_requested:
            held.watch.cancel()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching[over] = (downstream, held.watch)
        try:
            found = await held.watch.run()
        finally:
            del self._watching[over]
            over.set_result(None)
        if not isinstance(found, Left) and not asks(found):
            downstream.forget_task(task.id)
        return found

    async def _dispatch(self, call: Call, tool: Tool, held: UnderWay) -> Attempt:
        """Dispatch until something was sent or the downstream stays away; wait for the answer or the timeout.

        Nothing is dispatched that could not be sent before the call's deadline.
        """
        send_by = _send_by(call, held)
        give_up = min(send_by, anyio.current_time() + self.settings.unreachable_s)
        attempt: Attempt = NotSent(f"{call.tool} was given up before it was sent")
        pause_s = self.settings.first_backoff_s
        while not held.given_up:
            downstream = own_downstream(call, self._downstreams)
            if held.dispatch is None:
                if downstream is None:
                    return NotSent(how_changed(call, self._downstreams))
                if is_redefined(tool, self._catalog):
                    return NotSent(f"{call.tool} is defined differently than when the call was allowed")
                if held.place is not None and not held.place.may_send:
                    return NotSent(downstream.gate.why_shut)
                if anyio.current_time() >= send_by:
                    return NotSent(f"the deadline of {call.tool} passed before it could be sent", overdue=True)
                held.dispatch = self._begin(downstream, call, tool, held)
            attempt = await _answer(held.dispatch, tool, held, send_by)
            if not isinstance(attempt, NotSent) or anyio.current_time() + pause_s > give_up:
                break
            held.dispatch = None
            await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause_s *= 2
            if downstream is not None:
                await downstream.connected(max(0.0, give_up - anyio.current_time()))
        if isinstance(attempt, NotSent) and anyio.current_time() + pause_s > send_by:
            return replace(attempt, overdue=True)
        return attempt

    def _begin(self, downstream: Downstream, call: Call, tool: Tool, held: UnderWay) -> Dispatch:
        return downstream.dispatch(
            call.original_name,
            dispatched_arguments(call, tool),
            meta={"traceparent": call.traceparent} if call.traceparent else {},
            client=ClientProfile.from_json(call.client),
            members={**carried(call.round), **asked_as_task(tool, offered=downstream.makes_core_tasks)},
            on_progress=self._waiters.progress_of(call.id),
            on_message=self._waiters.messages_of(call.id),
            on_ask=self._questions(call, held).ask,
            holder=holder_of(call),
            read_only=tool.annotations.read_only,
        )

    def _questions(self, call: Call, held: UnderWay) -> Questions:
        """What the downstream may ask in the midst of this attempt becomes rounds of `call`."""

        async def put(asked: Round) -> bool:
            write = Move(call.id, Event.ASK, call.downstream, call.fence, round=asked, note=question(asked))
            moved = await self._steps.commit(write)
            if isinstance(moved, Moved) and moved.call.cancel_requested:
                await self._giving_up.fail_unanswered(moved.call, "the call was cancelled")
            else:
                self._steps.tell(moved)
            return isinstance(moved, Moved)

        async def give_up(number: int) -> None:
            await self._steps.take(Answer(call.id, number, ENGINE, {}, final=True))

        held.questions = Questions(call, put, give_up, self.settings.answer_within_s)
        return held.questions


def _send_by(call: Call, held: UnderWay) -> float:
    """When the request of a call that was just claimed must have been sent: by its deadline, on the loop's clock.

    The store's clock says how much was left at the claim; no other clock is compared with it. However long the commit
    took, what is left counts from when it was asked for.
    """
    left_s = math.inf if call.deadline_at is None else call.deadline_at - call.updated_at
    return held.claim_asked_at + left_s


async def _answer(dispatch: Dispatch, tool: Tool, held: UnderWay, send_by: float) -> Attempt:
    """The answer, within the tool's timeout; while the requester is asked, that does not run out.

    What was not sent by `send_by` never is; what was sent by then has its time.
    """
    patience_s = timeout_s(tool)
    left_s = send_by - anyio.current_time()
    if left_s < patience_s:
        await asyncio.wait((dispatch.outcome,), timeout=max(0.0, left_s))
        if not dispatch.outcome.done() and not dispatch.sent:
            dispatch.abandon()
            return NotSent(dispatch.holdup or f"{tool.downstream!r} did not take the request before its deadline")
        patience_s -= max(0.0, left_s)
    done = False
    while not done:
        await asyncio.wait((dispatch.outcome,), timeout=patience_s)
        done = dispatch.outcome.done() or held.questions is None or not held.questions.is_open
    if dispatch.outcome.done():
        return dispatch.outcome.result()
    sent = dispatch.sent
    if not sent or tool.annotations.read_only:
        dispatch.abandon()
    if not sent:
        why = dispatch.holdup or f"the downstream {tool.downstream!r} did not take the request"
        return NotSent(f"{why}; it was given up after {timeout_s(tool):g} s")
    return Lost(f"the downstream {tool.downstream!r} did not answer within {timeout_s(tool):g} s", timed_out=True)
