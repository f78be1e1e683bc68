"""The path of a call: key, catalog, schema, policy, one commit, run, answer.

Steps 2 to 6 of the life of a call stand here in order; running it is `runner`'s. The caller only waits: a call
never runs inside a request, so a client that goes away takes nothing with it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import anyio

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Decision, Effect
from holdfast_store.contract import (
    Accepted,
    Admit,
    Conflict,
    Joined,
    Mark,
    Note,
    Purged,
    Record,
    Replayed,
    Stale,
    Store,
    WriteResult,
)
from holdfast_store.model.errors import CallError, DownstreamError, StoreError, UnknownTool
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Json, NewCall, Principal
from holdfast_tools.admission import (
    admission,
    conflict,
    dispatched_arguments,
    holder_of,
    idempotency_key,
    new_call,
    opening,
    purged,
    recorded,
    repeats_may_join,
    subject_of,
    turned_away,
)
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.client import SILENT, ClientProfile
from holdfast_tools.conditional import alternatives
from holdfast_tools.downstream.attempt import Answered, NotSent
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.gate import Place, TurnedAway, Waits
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.input_rounds import InputRounds
from holdfast_tools.outcomes import failure, outcome_of, unreachable, was_detached
from holdfast_tools.output import checked
from holdfast_tools.remote.core import asked_as_task
from holdfast_tools.request import CallRequest, RefusedArguments, Reply
from holdfast_tools.rounds import Ask, Seal, asks_nothing, carried, goes_on, waits_for_client
from holdfast_tools.runner import Runner
from holdfast_tools.schema import canonical, digest_of
from holdfast_tools.settling import Settling
from holdfast_tools.waiters import PROGRESSING, Waiters

log = logging.getLogger("holdfast.gateway")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`inline_wait_s`: how long a client waits before it is given a handle, where the tool does not say."""

    inline_wait_s: float = 4.0
    max_arguments_bytes: int = 1024 * 1024


class Gateway:
    """Takes calls in and answers them. One per engine."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        policy: PolicySet,
        downstreams: Mapping[str, Downstream],
        runner: Runner,
        waiters: Waiters,
        seal: Seal,
        settings: GatewaySettings,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._downstreams = downstreams
        self._runner = runner
        self._waiters = waiters
        self._rounds = InputRounds(store, runner, waiters, seal)
        self._settings = settings
        self._settling = Settling(catalog, downstreams)

    def adjust(self, settings: GatewaySettings) -> None:
        """Go by `settings` from the next call on."""
        self._settings = settings

    async def call(self, request: CallRequest) -> Reply:
        """Run `request`, or find the call that answers for it.

        Returns the ended call, or the open one once `inline_wait_s` is over, it is parked or it is in doubt.
        Raises `CallError` (`UnknownTool`, `RefusedArguments`, `KeyConflict`, `OutcomePurged`, `InvalidRequestState`)
        where nothing was admitted, `DownstreamError` where it may be a tool of a downstream that never listed any,
        `StoreError` where nothing could be written; either way nothing ran.
        """
        tool = await self._tool(request)
        key = idempotency_key(request, tool)
        text = canonical(request.arguments)
        fingerprint = digest_of(text)
        if request.request_state is not None:
            return await self._continue(request, tool, fingerprint, request.request_state)
        if key is not None:
            found = await self._store.find_key(
                request.principal.tenant, request.principal.id, tool.downstream, tool.original_name, key
            )
            if found is not None:
                return await self._held_by_key(request, tool, key, fingerprint, found)
        self._check(request, tool, text)
        decision = self._policy.decide(subject_of(tool, request.principal, request.arguments))
        call = new_call(request, tool, key, fingerprint, decision)
        if self._may_run_unrecorded(request, tool, decision, call):
            reply = await self._read(request, tool, call, decision)
            if reply is not None:
                return reply
        return await self._admit(request, tool, call, decision)

    async def readmit(self, call: Call, resumer: str, request: CallRequest) -> Reply:
        """Admit a new call that resumes an ended one, through schema, policy and approval again."""
        tool = self._catalog.find(call.tool)
        if tool is None:
            raise UnknownTool(f"The tool {call.tool} is not offered any more; the call cannot be resumed.")
        self._check(request, tool, canonical(request.arguments))
        decision = self._policy.decide(subject_of(tool, request.principal, request.arguments))
        fresh = new_call(request, tool, None, call.fingerprint, decision)
        requesters = tuple(dict.fromkeys((*call.requesters, *fresh.requesters, resumer)))
        fresh = replace(fresh, resumes=call.id, run=call.run, requesters=requesters)
        return await self._admit(request, tool, fresh, decision)

    async def wait_until_ended(
        self, call_id: str, timeout_s: float, *, through_doubt: bool = False, ask: Ask | None = None
    ) -> Call | None:
        """The call once it has ended, through approvals and retries, or as it stands by then.

        In doubt it counts as ended, unless `through_doubt`. What its downstream asks is put to the client that waits,
        where it can be asked, and taken back from it when the time is over.
        """
        give_up = anyio.current_time() + timeout_s
        while True:
            with self._waiters.expect(call_id) as future:
                call = await self._store.get_call(call_id)
                left_s = give_up - anyio.current_time()
                in_doubt = call is not None and call.state is State.IN_DOUBT
                if call is None or call.ended or (in_doubt and not through_doubt) or left_s <= 0:
                    return call
                if ask is not None and waits_for_client(call):
                    if await self._rounds.put_to_client(call, ask, left_s) is None:
                        ask = None
                    continue
                await asyncio.wait((future,), timeout=left_s)

    def delivered(self, reply: Reply) -> None:
        """The reply is on its way to a client that had not given up: note what it carried."""
        call = reply.call
        if call.ended and not call.delivered:
            self._store.commit_soon((Mark(call.id, delivered=True),))
        elif not call.ended and not call.handled:
            self._store.commit_soon((Mark(call.id, handled=True),))

    def handed_over(self, call: Call) -> None:
        """The call's id is on its way to its client, whatever became of the call: note that, and no delivery."""
        if not call.handled:
            self._store.commit_soon((Mark(call.id, handled=True),))

    # --- rounds of input --------------------------------------------------------------------------------------

    def request_state(self, call: Call) -> str:
        """What a client of the stateless era sends back with its answers to the open round of `call`."""
        return self._rounds.request_state(call)

    async def answer_input(self, call_id: str, principal: Principal, responses: Json, *, number: int) -> Call:
        """Take answers to round `number` of a call, as of `InputRounds.answer`."""
        return await self._rounds.answer(call_id, principal, responses, number=number)

    async def _continue(self, request: CallRequest, tool: Tool, fingerprint: str, state: str) -> Reply:
        """Take up the round that `state` names, with the answers of `request`."""
        call, number = await self._rounds.named(request, tool, fingerprint, state)
        with self._expect(request, call.id) as future:
            call, joined = await self._rounds.take_up(request, tool, call, number)
            return Reply(await self._inline(request, tool, call, future), joined=joined)

    # --- steps ------------------------------------------------------------------------------------------------

    async def _tool(self, request: CallRequest) -> Tool:
        tool = self._catalog.get(request.tool)
        if tool is None or not tool.is_for(request.client):
            await self.settle_catalog(request.tool, request.client)
            tool = self._catalog.get(request.tool)
        if tool is not None:
            return tool
        silent = self._settling.unknown_owners(request.tool)
        if silent:
            reasons = "; ".join(unreachable(downstream).message for downstream in silent)
            raise DownstreamError(f'The tool "{request.tool}" is not known, and nothing ran: {reasons}')
        nearest = self._catalog.nearest(request.tool, request.client)
        hint = f' Did you mean "{nearest}"?' if nearest else ' "tools/list" names what there is.'
        raise UnknownTool(f'There is no tool "{request.tool}".{hint}')

    async def settle_catalog(self, tool: str | None = None, client: ClientProfile = SILENT) -> None:
        """Wait, for a while, for what `client` may know and the catalog does not yet: see `Settling.settle`."""
        await self._settling.settle(client, tool)

    def _check(self, request: CallRequest, tool: Tool, text: str) -> None:
        if not tool.is_for(request.client):
            raise UnknownTool(
                f'There is no tool "{tool.name}" for this client: {tool.downstream} has it only for clients that '
                f"declare {alternatives(tool.needs)}. Nothing ran."
            )
        size = len(text.encode())
        if size > self._settings.max_arguments_bytes:
            raise CallError(
                f"The arguments of {tool.name} take {size:,} bytes; the limit is "
                f"{self._settings.max_arguments_bytes:,}. Nothing ran. Send less, or pass a reference to the data."
            )
        problems = tool.schema.problems(request.arguments)
        if problems:
            raise RefusedArguments(tool.name, problems)

    async def _held_by_key(
        self, request: CallRequest, tool: Tool, key: str, fingerprint: str, found: Call | Purged
    ) -> Reply:
        if isinstance(found, Purged):
            raise purged(tool, key)
        if found.fingerprint != fingerprint:
            raise conflict(tool, key, found.id)
        return await self._answer_for(request, tool, found)

    def _may_run_unrecorded(self, request: CallRequest, tool: Tool, decision: Decision, call: NewCall) -> bool:
        """Whether this is a plain read: allowed, harmless, asked for without a key; journaled after the fact."""
        settings, downstream = tool.settings, self._downstreams[tool.downstream]
        return (
            not request.at_once
            and decision.effect is Effect.ALLOW
            and not decision.would_ask
            and tool.annotations.read_only
            and call.key is None
            and not settings.journal_strict
            and settings.order is None
            and settings.max_attempts == 1
            and settings.timeout_s is None
            and call.deadline_s is None
            and downstream.status.state == "connected"
            and not downstream.asks_within(request.client)
        )

    async def _read(self, request: CallRequest, tool: Tool, call: NewCall, decision: Decision) -> Reply | None:
        """Dispatch at once; None where there was no place, or nothing was sent, and the durable path must take over."""
        place = self._downstreams[tool.downstream].gate.take()
        if place is None:
            return None
        with self._waiters.hearing(call.id, request.listener):
            return await self._read_at_once(request, tool, call, decision, place)

    async def _read_at_once(
        self, request: CallRequest, tool: Tool, call: NewCall, decision: Decision, place: Place
    ) -> Reply | None:
        began = time.monotonic()
        meta = {"traceparent": call.traceparent} if call.traceparent else {}
        downstream = self._downstreams[tool.downstream]
        dispatch: Dispatch | None = None
        try:
            dispatch = downstream.dispatch(
                tool.original_name,
                dispatched_arguments(call, tool),
                meta=meta,
                client=request.client,
                members={**carried(opening(request)), **asked_as_task(tool, offered=downstream.makes_core_tasks)},
                on_progress=self._waiters.progress_of(call.id),
                on_message=self._waiters.messages_of(call.id),
                holder=holder_of(call),
                read_only=True,
            )
            done, _ = await asyncio.wait((dispatch.outcome,), timeout=self._inline_wait_s(request, tool))
        except BaseException:
            if dispatch is not None:
                dispatch.abandon()
            self._runner.leave(place, None)
            raise
        if not done or goes_on(dispatch.outcome.result()):
            return await self._record_open(request, tool, call, place, dispatch)
        attempt = dispatch.outcome.result()
        self._runner.leave(place, attempt)
        if isinstance(attempt, NotSent):
            return None
        if isinstance(attempt, Answered):
            outcome = checked(tool, outcome_of(attempt))
        elif not downstream.gate.may_retry():
            outcome = failure(f"{attempt.reason}; {downstream.gate.why_no_retry}")
        elif isinstance(entry := self._entry(tool, call, decision), TurnedAway):
            outcome = failure(f"{attempt.reason}; it was not tried again: {entry.reason}")
        else:
            return await self._admit(request, tool, call, decision, entry)
        took_s = time.monotonic() - began
        self._store.commit_soon((Record(call, outcome, took_s),))
        return Reply(recorded(call, outcome, took_s))

    async def _record_open(
        self, request: CallRequest, tool: Tool, call: NewCall, place: Place, dispatch: Dispatch
    ) -> Reply:
        """Admit a read that goes on: it takes its time, it asked for input, or it became a task of the downstream."""
        begun = Admit(call, Event.START, lease=self._runner.lease, round=opening(request))
        with self._expect(request, call.id) as future:
            admitted = await self._runner.admit(begun, tool, place, dispatch)
            if not isinstance(admitted, Accepted):
                raise TypeError(f"a call without a key was answered with {admitted!r}")
            if not dispatch.outcome.done():
                return Reply(admitted.call)
            return Reply(await self._inline(request, tool, admitted.call, future))

    async def _admit(
        self,
        request: CallRequest,
        tool: Tool,
        call: NewCall,
        decision: Decision,
        entry: Place | Waits | TurnedAway | None = None,
    ) -> Reply:
        """Take the call in, by the `entry` that it was given, where it was, and answer."""
        entry = entry or self._entry(tool, call, decision)
        if isinstance(entry, TurnedAway) and not repeats_may_join(tool, call):
            raise turned_away(tool, entry)
        write = self._admission(request, tool, call, decision, entry)
        with self._expect(request, call.id) as future:
            result = await self._runner.admit(write, tool, entry if isinstance(entry, Place) else None)
            if isinstance(result, Accepted):
                return Reply(await self._inline(request, tool, result.call, future))
        if isinstance(result, Stale):
            why = entry if isinstance(entry, TurnedAway) else self._downstreams[tool.downstream].gate.lines_full
            raise turned_away(tool, why)
        reply = await self._answered_by_another(request, tool, call, result)
        if reply.joined and was_detached(reply.call):
            return await self._admit(request, tool, call, decision)
        return reply

    def _entry(self, tool: Tool, call: NewCall, decision: Decision) -> Place | Waits | TurnedAway | None:
        """How an allowed call comes to its downstream: now, through the queue, or not; None for any other."""
        if decision.effect is not Effect.ALLOW:
            return None
        downstream = self._downstreams[tool.downstream]
        ready = downstream.status.state == "connected" and self._runner.free_slots > 0
        return downstream.gate.ask(call.id, at_once=ready)

    def _admission(
        self,
        request: CallRequest,
        tool: Tool,
        call: NewCall,
        decision: Decision,
        entry: Place | Waits | TurnedAway | None,
    ) -> Admit:
        lease = self._runner.lease if isinstance(entry, Place) else None
        waited_s = max(0.0, time.monotonic() - request.asked_at)
        waits_for = entry.reason if isinstance(entry, Waits) else None
        write = admission(request, tool, call, decision, lease, waited_s, waits_for)
        if isinstance(entry, TurnedAway):
            return replace(write, joins_only=True)
        if call.line is None or entry is None:
            return write
        return replace(write, may_wait=self._downstreams[tool.downstream].gate.may_line_up(call.id))

    async def _answered_by_another(self, request: CallRequest, tool: Tool, call: NewCall, result: WriteResult) -> Reply:
        match result:
            case Replayed(found) | Joined(found):
                return await self._answer_for(request, tool, found)
            case Conflict(call_id):
                raise conflict(tool, call.key or "", call_id)
            case Purged():
                raise purged(tool, call.key or "")
            case _:
                raise TypeError(f"admission was answered with {result!r}")

    async def _answer_for(self, request: CallRequest, tool: Tool, found: Call) -> Reply:
        """Let `found` answer for `request`: replayed where it had ended, joined where it is open."""
        replayed = found.ended and found.key is not None
        self._store.commit_soon((Note(found.id, "replayed" if replayed else "joined", request.principal.id),))
        with self._expect(request, found.id) as future:
            moves = found.state in PROGRESSING or asks_nothing(found)
            call = await self._as_it_stands(found) if moves else found
            call = await self._inline(request, tool, call, future)
        return Reply(call, replayed=replayed, joined=not replayed)

    async def _inline(self, request: CallRequest, tool: Tool, call: Call, future: asyncio.Future[Call]) -> Call:
        """`call` once it has ended, is parked or in doubt, or as it stands when this client has waited long enough.

        What its downstream asks meanwhile is put to a client that can be asked; its own time does not count.
        """
        call = await self._wait(request, tool, call, future)
        while request.ask is not None and not request.at_once and waits_for_client(call):
            with self._expect(request, call.id) as future:
                answered = await self._rounds.put_to_client(call, request.ask)
                if answered is None:
                    return call
                call = await self._wait(request, tool, answered, future)
        return call

    async def _wait(self, request: CallRequest, tool: Tool, call: Call, future: asyncio.Future[Call]) -> Call:
        if call.state not in PROGRESSING and not (asks_nothing(call) and not _comes_again(request)):
            return call
        try:
            done, _ = await asyncio.wait((future,), timeout=self._inline_wait_s(request, tool))
            if not done:
                await self._runner.until_withdrawn_or_kept(call.id)
        except asyncio.CancelledError:
            if call.key is None:
                self._runner.withdraw_detached(call.id)
            raise
        stands = call if done else await self._as_it_stands(call)
        return future.result() if future.done() else stands

    def _expect(self, request: CallRequest, call_id: str) -> AbstractContextManager[asyncio.Future[Call]]:
        takes_task, comes_again = request.takes_task, _comes_again(request)
        return self._waiters.expect(call_id, request.listener, takes_task=takes_task, comes_again=comes_again)

    async def _as_it_stands(self, call: Call) -> Call:
        """`call` as stored now; as it was where the store is in trouble, since it was admitted all the same."""
        try:
            return await self._store.get_call(call.id) or call
        except StoreError as error:
            log.error("a call could not be read", extra={"call": call.id, "error": str(error)})
            return call

    def _inline_wait_s(self, request: CallRequest, tool: Tool) -> float:
        if request.at_once:
            return 0.0
        if request.inline_wait_s is not None:
            return request.inline_wait_s
        configured = tool.settings.inline_wait_s
        return configured if configured is not None else self._settings.inline_wait_s


def _comes_again(request: CallRequest) -> bool:
    """Whether this client, told that the downstream only wants the call again, makes it again by itself."""
    return request.client.is_modern and not request.at_once
