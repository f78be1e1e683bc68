"""Giving calls up as far as that is honest: withdrawn, put back, or left without an answer to what was asked."""

import asyncio
import logging

from holdfast_store.contract import Answer, Mark, Move, Moved, Note, Stale, Store
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Outcome
from holdfast_tools.catalog import Catalog
from holdfast_tools.outcomes import cancelled, detached, failure
from holdfast_tools.steps import ENGINE, Steps
from holdfast_tools.under_way import Slots, UnderWay
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.runner")


class GivingUp:
    """Ends calls before their outcome, or stops waiting for it."""

    def __init__(self, store: Store, catalog: Catalog, waiters: Waiters, steps: Steps, slots: Slots) -> None:
        self._store = store
        self._catalog = catalog
        self._waiters = waiters
        self._steps = steps
        self._slots = slots
        self._withdrawing: dict[str, asyncio.Future[None]] = {}

    async def cancel(self, call: Call, actor: str) -> Call:
        """Withdraw `call` as far as that is honest, and return it as it then stands."""
        outcome = cancelled(f"cancelled by {actor}")
        while not call.ended and call.state is not State.IN_DOUBT:
            if self._withdraw(call, outcome):
                result = await self._steps.commit(Move(call.id, Event.CANCEL, actor, call.fence, outcome=outcome))
            else:
                asked = Note(call.id, "cancel_requested", actor)
                result = await self._steps.commit(Mark(call.id, cancel_requested=True), asked)
                self._cancel_remote_task(call.id)
            if isinstance(result, Moved):
                self._steps.tell(result)
                if result.call.state is State.WAITING_FOR_INPUT:
                    return await self._leave_unanswered(result.call, outcome.message) or result.call
                return result.call
            if not isinstance(result, Stale) or result.call is None:
                return call
            call = result.call
        return call

    async def fail_unanswered(self, call: Call, reason: str) -> Call | None:
        """Nobody will answer what the downstream of `call` asked; return the call as it then stands."""
        if call.round is None:
            return call
        if call.round.attached:
            return await self._leave_unanswered(call, reason)
        outcome = failure(f"{call.downstream} asked for input before it went on, and got none: {reason}")
        number = call.round.number
        failed = Move(call.id, Event.FAIL, ENGINE, call.fence, outcome=outcome, sent=False, round_number=number)
        result = await self._steps.take(failed)
        return result.call if isinstance(result, Moved | Stale) else None

    async def withdraw_detached(self, call_id: str) -> None:
        """Cancel a call that nobody can ask for any more: never claimed, without key, handle and waiting client."""
        if self._waiters.waited_for(call_id) or call_id in self._withdrawing:
            return
        over = self._withdrawing[call_id] = asyncio.get_running_loop().create_future()
        try:
            await self._withdraw_unheld(call_id)
        finally:
            del self._withdrawing[call_id]
            over.set_result(None)

    async def until_withdrawn_or_kept(self, call_id: str) -> None:
        """Wait while it is being decided whether a detached call is withdrawn: who joined it may not hear of it yet."""
        over = self._withdrawing.get(call_id)
        if over is not None:
            await asyncio.wait((over,))

    async def _withdraw_unheld(self, call_id: str) -> None:
        seen = await self._steps.commit(Mark(call_id))  # unlike a read it comes after all that is being committed now
        call = seen.call if isinstance(seen, Moved) else None
        if call is None or call.state is not State.QUEUED or call.fence or call.key is not None:
            return
        if call.approval_id is not None or self._waiters.waited_for(call_id):  # what was parked was given a handle
            return
        withdrawn = Move(call_id, Event.CANCEL, call.principal, call.fence, outcome=detached(), unhandled=True)
        await self._steps.take(withdrawn)

    async def put_back(self, call_id: str, held: UnderWay) -> None:
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

    async def _leave_unanswered(self, call: Call, reason: str) -> Call | None:
        """End the open round of `call` without an answer: what asked, its attempt or its remote task, goes on."""
        if call.round is None:
            return call
        result = await self._steps.take(Answer(call.id, call.round.number, ENGINE, {}, final=True))
        held = self._slots.get(call.id)
        if isinstance(result, Moved) and held is not None and held.questions is not None:
            held.questions.refused(reason)
        return result.call if isinstance(result, Moved | Stale) else None

    def _cancel_remote_task(self, call_id: str) -> None:
        """Have the remote task cancelled that is watched here, or is about to be."""
        held = self._slots.get(call_id)
        if held is not None:
            held.cancel_requested = True
            if held.watch is not None:
                held.watch.cancel()

    def _withdraw(self, call: Call, outcome: Outcome) -> bool:
        """Whether `call` may be cancelled as it stands; then nothing is sent for it from now on.

        Never where its downstream made a task of it: that goes on, whoever watches it, until it is cancelled there.
        """
        if call.remote_task is not None:
            return False
        attached = call.state is State.WAITING_FOR_INPUT and call.round is not None and call.round.attached
        if call.state is not State.RUNNING and not attached:
            return True
        held = self._slots.get(call.id)
        if held is None or held.watch is not None or (held.sent and not self._is_read(call)):
            return False
        held.withdrawn = outcome
        held.abandon()
        return True

    def _is_read(self, call: Call) -> bool:
        tool = self._catalog.find(call.tool)
        return tool is not None and tool.annotations.read_only
