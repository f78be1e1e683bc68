"""Runs claimed calls: claim, attempt, conclude. The only place from which anything is sent for a stored call.

A call is claimed by a commit before it is sent, and settled by a commit before anybody hears of its outcome. What
was sent and not answered is retried where that is harmless, and in doubt where it is not.
"""

import asyncio
from collections.abc import Mapping

import anyio
from anyio.abc import TaskGroup

from holdfast_policy.decide import PolicySet
from holdfast_store.contract import Accepted, Admit, Lease, Note, Store, WriteResult
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, NewCall, Principal
from holdfast_tools.attempts import Attempts
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.claims import Claims
from holdfast_tools.conclusions import Conclusions
from holdfast_tools.downstream.attempt import Attempt, Lost
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.gate import Place, TurnedAway, Waits
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.giving_up import GivingUp
from holdfast_tools.remote.leftovers import Leftovers
from holdfast_tools.settings import RunnerSettings
from holdfast_tools.steps import ENGINE, Steps
from holdfast_tools.under_way import Slots, UnderWay
from holdfast_tools.waiters import Waiters


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
        settings = settings or RunnerSettings()
        self._store = store
        self._downstreams = downstreams
        self._queued = queued
        self._lease = Lease(owner, settings.lease_s)
        self._slots = Slots(settings.max_under_way, queued)
        self._steps = Steps(store, waiters)
        self._claims = Claims(
            store, catalog, policy, downstreams, principals, self._steps, self._lease, settings.unreachable_s
        )
        self._leftovers = Leftovers(downstreams, self._slots)
        waiters.subscribe(self._leftovers.moved)
        waiters.subscribe(self._left_the_queue)
        self._giving_up = GivingUp(store, catalog, waiters, self._steps, self._slots)
        self._attempts = Attempts(
            catalog, downstreams, waiters, self._steps, self._slots, self._giving_up, self._leftovers, settings
        )
        self._conclusions = Conclusions(
            catalog, downstreams, waiters, self._steps, self._giving_up, self._leftovers, queued, settings
        )
        self._tasks: TaskGroup | None = None

    @property
    def lease(self) -> Lease:
        """The lease under which this engine's calls run."""
        return self._lease

    def adjust(self, settings: RunnerSettings) -> None:
        """Go by `settings` from the next attempt on; the lease stays."""
        self._attempts.settings = self._conclusions.settings = settings
        self._slots.most = settings.max_under_way

    @property
    def free_slots(self) -> int:
        """How many more calls may be under way at once; none once the engine stops."""
        return self._slots.free

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, watched remote tasks among them."""
        return self._slots.idle

    def is_under_way(self, call_id: str) -> bool:
        """Whether this engine is running the call now, or about to."""
        return call_id in self._slots

    def attach(self, tasks: TaskGroup) -> None:
        """Run everything in `tasks`, the engine's own group: never in a request's."""
        self._tasks = tasks
        self._leftovers.attach(tasks)

    async def drain(self, timeout_s: float) -> bool:
        """Begin nothing more and wait until nothing is under way; False where `timeout_s` was not enough.

        Then what was not sent yet is queued again, for the next engine; what was sent stays for it to recover.
        """
        self._slots.closed = True
        with anyio.move_on_after(timeout_s):
            await self._slots.until_idle()
            return True
        for call_id, held in self._slots:
            if not held.sent:
                await self._giving_up.put_back(call_id, held)
        return False

    async def part(self, downstream: Downstream) -> None:
        """`downstream` leaves the config: wait until no task of it is watched. Cancelled, watching ends there."""
        await self._attempts.part(downstream)

    def wake(self) -> None:
        """Something was queued: have the scheduler look now."""
        self._queued.set()

    async def admit(
        self, write: Admit, tool: Tool, place: Place | None = None, dispatch: Dispatch | None = None
    ) -> WriteResult:
        """Take a call in and, where that claims it, run it: in the engine's own group, never in the request.

        A caller that goes away drops the answer and nothing else. With a lease it has a `place` at its downstream,
        which is left for it; `dispatch` is a read that is under way already. Raises `StoreError` where nothing could
        be written.
        """
        answer: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()
        held = self._slots.hold(write.call.id, place, dispatch) if write.lease is not None else None
        self._group.start_soon(self._admit, write, tool, held, answer)
        return await answer

    def begin_queued(self, call: Call) -> bool:
        """Check, claim and run a queued call, in the background.

        False for one that waits for its downstream to come back, or for a place there: it takes up no slot meanwhile.
        """
        if not self._claims.may_begin(call):
            return False
        downstream = self._downstreams.get(call.downstream)
        place = None
        if downstream is not None and call.remote_task is None:
            place = downstream.gate.begin(call.id)
            if place is None:
                self._note_wait(call, downstream.gate.wait(call.id))
                return False
            if place.is_probe:
                self._store.commit_soon((Note(call.id, "breaker_probe", ENGINE),))
        self._group.start_soon(self._start_queued, call, self._slots.hold(call.id, place))
        return True

    def is_full(self, name: str) -> bool:
        """Whether nothing may be sent to this downstream now: it has no free place, or its breaker is open."""
        downstream = self._downstreams.get(name)
        return downstream is not None and downstream.gate.is_full

    def count_in(self, call: Call) -> None:
        """An earlier engine left `call` in the queue: it stands before all newcomers."""
        downstream = self._downstreams.get(call.downstream)
        if downstream is not None and call.ticket is None:
            downstream.gate.wait(call.id)
        elif downstream is not None:
            downstream.gate.line_up(call.id)

    def leave(self, place: Place, attempt: Attempt | None) -> None:
        """Give back the place of an attempt that was no stored call's, as of `Place.leave`."""
        place.leave(attempt)
        if place.others_wait:
            self._queued.set()

    def go_on(self, call: Call) -> None:
        """Answers came for `call`: its attempt goes on; or its next one runs at once where there is a slot."""
        held = self._slots.get(call.id)
        if call.state is State.RUNNING and call.round is not None and held is not None and held.questions is not None:
            held.questions.answered(call.round)
        if call.state is not State.QUEUED:
            return
        if not self.free_slots or self.is_under_way(call.id) or not self.begin_queued(call):
            self.wake()

    async def fail_unanswered(self, call: Call, reason: str) -> Call | None:
        """Nobody will answer what the downstream of `call` asked; return the call as it then stands.

        An attempt that is under way goes on without the answer, as its downstream sees fit; else the call ends.
        """
        return await self._giving_up.fail_unanswered(call, reason)

    def call_again(self, call: Call) -> None:
        """Have `call`, whose downstream wants it to be sent again and asks nothing, go on after a pause."""
        self._group.start_soon(self._conclusions.call_again, call)

    async def fail_changed(self, call: Call) -> None:
        """End a call whose downstream is configured differently, or no more; what is in doubt stays."""
        await self._claims.fail_changed(call)

    async def cancel(self, call: Call, actor: str) -> Call:
        """Withdraw `call` as far as that is honest, and return it as it then stands.

        What was not sent, and reads, are cancelled. A write that was sent is only marked: the downstream is told
        nothing, and the outcome settles as what it was. A downstream that made a task of the call is told to cancel
        that; what comes of it is what counts.
        """
        call = await self._giving_up.cancel(call, actor)
        if call.state is State.QUEUED:  # its remote task is watched again, to be cancelled
            self.go_on(call)
        return call

    def withdraw_detached(self, call_id: str) -> None:
        """Cancel a call that nobody can ask for any more: never claimed, without key, handle and waiting client."""
        self._group.start_soon(self._giving_up.withdraw_detached, call_id)

    async def until_withdrawn_or_kept(self, call_id: str) -> None:
        """Wait while it is being decided whether a detached call is withdrawn: who joined it may not hear of it yet."""
        await self._giving_up.until_withdrawn_or_kept(call_id)

    @property
    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the runner is not attached to a task group")
        return self._tasks

    async def _admit(
        self, write: Admit, tool: Tool, held: UnderWay | None, answer: asyncio.Future[WriteResult]
    ) -> None:
        try:
            (result,) = await self._store.commit((write,))
        except BaseException as error:
            self._forget(write.call)
            self._slots.drop(write.call.id, held)
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
            self._forget(write.call)
            self._slots.drop(write.call.id, held)
        elif held is not None and result.call.state is State.RUNNING:
            self._wait_in_line(result)
            await self._execute(result.call, tool, held)
        else:
            self._slots.drop(write.call.id, held)
            self._wait_in_line(result)
            if detached:
                await self._giving_up.withdraw_detached(result.call.id)
            self._queued.set()

    def _forget(self, call: NewCall) -> None:
        """The call does not wait for a place any more."""
        downstream = self._downstreams.get(call.downstream)
        if downstream is not None:
            downstream.gate.forget(call.id)

    def _wait_in_line(self, admitted: Accepted) -> None:
        """Count a call of a line as waiting for its turn, where it has to."""
        call = admitted.call
        downstream = self._downstreams.get(call.downstream)
        if downstream is None or call.line is None:
            return
        if admitted.behind is not None:
            downstream.gate.line_up(call.id)
        else:
            downstream.gate.leave_line(call.id)

    def _left_the_queue(self, call: Call) -> None:
        if call.state is not State.QUEUED:
            self._forget(call)
        if call.line is not None and call.ticket is None:  # the next of its line may start
            self._queued.set()

    def _note_wait(self, call: Call, why: Waits | TurnedAway | None) -> None:
        """Have the journal say what an admitted call waits for; it need not be on disk before anything else is."""
        if why is not None:
            event = "breaker_open" if isinstance(why, TurnedAway) else "waits_for_a_place"
            self._store.commit_soon((Note(call.id, event, ENGINE, {"reason": why.reason}),))

    async def _start_queued(self, call: Call, held: UnderWay) -> None:
        try:
            claimed = await self._claim(call, held)
        except BaseException:
            self._slots.release(call.id)
            raise
        if claimed is None:
            self._slots.release(call.id)
            self._queued.set()
            return
        await self._execute(*claimed, held)

    async def _claim(self, call: Call, held: UnderWay) -> tuple[Call, Tool] | None:
        """Bring a queued call to `running`, or end it; None where there is nothing to run (any more)."""
        tool = await self._claims.runnable(call)
        if tool is None or self._slots.closed:
            return None
        held.claim_asked_at = anyio.current_time()
        claimed = await self._claims.claim(call)
        return None if claimed is None else (claimed, tool)

    async def _execute(self, call: Call, tool: Tool, held: UnderWay) -> None:
        """One claimed attempt, from dispatch to settle; then wait for late evidence where it was lost.

        `tool` is as it was when policy let the call start.
        """
        again: Call | None = None
        try:
            attempt = await self._attempts.make(call, tool, held)
            self._slots.leave_place(held, attempt)
            if held.withdrawn is not None:
                await self._steps.end(call, Event.CANCEL, held.withdrawn)
            elif not held.put_back:
                again = await self._conclusions.conclude(call, attempt, tool)
        finally:
            self._slots.release(call.id)
        if again is not None:
            await self._conclusions.call_again(again)
        elif isinstance(attempt, Lost) and held.dispatch is not None:
            await self._conclusions.await_evidence(call, held.dispatch, tool)
