"""The path of a call: key, catalog, schema, policy, one commit, run, answer.

Steps 2 to 6 of the life of a call stand here in order; running it is `runner`'s. The caller only waits: a call
never runs inside a request, so a client that goes away takes nothing with it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import anyio

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Decision, Effect
from holdfast_store.contract import (
    Accepted,
    Admit,
    Conflict,
    Dedupe,
    Joined,
    Mark,
    Note,
    Purged,
    Record,
    Replayed,
    Store,
    WriteResult,
)
from holdfast_store.model.errors import CallError, DownstreamError, KeyConflict, OutcomePurged, StoreError, UnknownTool
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, NewCall, Outcome, OutcomeKind
from holdfast_tools.admission import dispatched_arguments, idempotency_key, new_approval, new_call, subject_of
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.downstream.attempt import Answered
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.request import CallRequest, RefusedArguments, Reply
from holdfast_tools.runner import Runner, outcome_of, unreachable, was_detached
from holdfast_tools.schema import canonical, digest_of
from holdfast_tools.waiters import PROGRESSING, Waiters

log = logging.getLogger("holdfast.gateway")

FIRST_CATALOG_S = 15.0
"""How long a call or a listing waits for a downstream of which nothing is known yet."""


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
        settings: GatewaySettings,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._downstreams = downstreams
        self._runner = runner
        self._waiters = waiters
        self._settings = settings

    async def call(self, request: CallRequest) -> Reply:
        """Run `request`, or find the call that answers for it.

        Returns the ended call, or the open one once `inline_wait_s` is over, it is parked or it is in doubt.
        Raises `CallError` (`UnknownTool`, `RefusedArguments`, `KeyConflict`, `OutcomePurged`) where nothing was
        admitted, `DownstreamError` where it may be a tool of a downstream that never listed any, `StoreError` where
        nothing could be written; either way nothing ran.
        """
        tool = await self._tool(request)
        key = idempotency_key(request, tool)
        text = canonical(request.arguments)
        fingerprint = digest_of(text)
        if key is not None:
            found = await self._store.find_key(
                request.principal.tenant, request.principal.id, tool.downstream, tool.original_name, key
            )
            if found is not None:
                return await self._held_by_key(request, tool, key, fingerprint, found)
        self._check(request, tool, text)
        decision = self._policy.decide(subject_of(tool, request.principal, request.arguments))
        call = new_call(request, tool, key, fingerprint, decision)
        if self._may_run_unrecorded(tool, decision, call):
            reply = await self._read(request, tool, call)
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

    async def wait_until_ended(self, call_id: str, timeout_s: float) -> Call | None:
        """The call once it has ended or is in doubt, through approvals and retries, or as it stands by then."""
        give_up = anyio.current_time() + timeout_s
        while True:
            with self._waiters.expect(call_id) as future:
                call = await self._store.get_call(call_id)
                left_s = give_up - anyio.current_time()
                if call is None or call.ended or call.state is State.IN_DOUBT or left_s <= 0:
                    return call
                await asyncio.wait((future,), timeout=left_s)

    def delivered(self, reply: Reply) -> None:
        """The reply is on its way to a client that had not given up: note what it carried."""
        call = reply.call
        if call.ended and not call.delivered:
            self._store.commit_soon((Mark(call.id, delivered=True),))
        elif not call.ended and not call.handled:
            self._store.commit_soon((Mark(call.id, handled=True),))

    # --- steps ------------------------------------------------------------------------------------------------

    async def _tool(self, request: CallRequest) -> Tool:
        tool = self._catalog.get(request.tool)
        if tool is None:
            await self.settle_catalog(request.tool)
            tool = self._catalog.get(request.tool)
        if tool is not None:
            return tool
        silent = self._unknown_owners(request.tool)
        if silent:
            reasons = "; ".join(unreachable(downstream).message for downstream in silent)
            raise DownstreamError(f'The tool "{request.tool}" is not known, and nothing ran: {reasons}')
        nearest = self._catalog.nearest(request.tool)
        hint = f' Did you mean "{nearest}"?' if nearest else ' "tools/list" names what there is.'
        raise UnknownTool(f'There is no tool "{request.tool}".{hint}')

    async def settle_catalog(self, tool: str | None = None) -> None:
        """Wait, at most `FIRST_CATALOG_S`, for downstreams of which nothing is known yet.

        With `tool`, only for those whose prefix it could carry.
        """
        unknown = self._unknown_owners(tool)
        if unknown:
            async with anyio.create_task_group() as tasks:
                for downstream in unknown:
                    tasks.start_soon(downstream.settled, FIRST_CATALOG_S)

    def _unknown_owners(self, tool: str | None) -> list[Downstream]:
        """The downstreams that never listed their tools, as far as `tool` could be one of them."""
        return [
            downstream
            for name, downstream in self._downstreams.items()
            if not self._catalog.knows(name) and (tool is None or self._could_offer(name, tool))
        ]

    def _could_offer(self, downstream: str, tool: str) -> bool:
        return not self._catalog.prefix or tool.startswith(f"{downstream}__")

    def _check(self, request: CallRequest, tool: Tool, text: str) -> None:
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
            raise _purged(tool, key)
        if found.fingerprint != fingerprint:
            raise _conflict(tool, key, found.id)
        return await self._answer_for(request, tool, found)

    def _may_run_unrecorded(self, tool: Tool, decision: Decision, call: NewCall) -> bool:
        """Whether this is a plain read: allowed, harmless, asked for without a key; journaled after the fact."""
        settings = tool.settings
        return (
            decision.effect is Effect.ALLOW
            and not decision.would_ask
            and tool.annotations.read_only
            and call.key is None
            and not settings.journal_strict
            and settings.max_attempts == 1
            and settings.timeout_s is None
            and self._downstreams[tool.downstream].status.state == "connected"
        )

    async def _read(self, request: CallRequest, tool: Tool, call: NewCall) -> Reply | None:
        """Dispatch at once; None where no answer came and the durable path must take over."""
        began = time.monotonic()
        meta = {"traceparent": call.traceparent} if call.traceparent else {}
        dispatch = self._downstreams[tool.downstream].dispatch(
            tool.original_name, dispatched_arguments(call, tool), meta=meta, read_only=True
        )
        try:
            done, _ = await asyncio.wait((dispatch.outcome,), timeout=self._inline_wait_s(request, tool))
        except BaseException:
            dispatch.abandon()
            raise
        if not done:
            admission = Admit(call, Event.START, lease=self._runner.lease)
            admitted = await self._runner.admit(admission, tool, dispatch)
            if not isinstance(admitted, Accepted):
                raise TypeError(f"a call without a key was answered with {admitted!r}")
            return Reply(admitted.call)
        attempt = dispatch.outcome.result()
        if not isinstance(attempt, Answered):
            return None
        outcome = outcome_of(attempt)
        took_s = time.monotonic() - began
        self._store.commit_soon((Record(call, outcome, took_s),))
        return Reply(_recorded(call, outcome, took_s))

    async def _admit(self, request: CallRequest, tool: Tool, call: NewCall, decision: Decision) -> Reply:
        with self._waiters.expect(call.id) as future:
            result = await self._runner.admit(self._admission(request, tool, call, decision), tool)
            if isinstance(result, Accepted):
                return Reply(await self._inline(request, tool, result.call, future))
        reply = await self._answered_by_another(request, tool, call, result)
        if reply.joined and was_detached(reply.call):
            return await self._admit(request, tool, call, decision)
        return reply

    def _admission(self, request: CallRequest, tool: Tool, call: NewCall, decision: Decision) -> Admit:
        admit = partial(Admit, call, waited_s=max(0.0, time.monotonic() - request.asked_at))
        settings = tool.settings
        joins = call.key is None and settings.dedupe and not tool.annotations.read_only
        dedupe = Dedupe(join_window_s=settings.join_window_s) if joins else None
        note = decision.reason if decision.would_ask else None
        detail = {"would_ask": decision.reason} if decision.would_ask else {}
        if decision.effect is Effect.DENY:
            outcome = Outcome(OutcomeKind.DENIED, {"message": decision.reason})
            return admit(Event.DENY, outcome=outcome, dedupe=dedupe)
        if decision.effect is Effect.REQUIRE_APPROVAL:
            approval = new_approval(decision, call.fingerprint, call.definition)
            return admit(Event.PARK, approval=approval, dedupe=dedupe, note=decision.reason)
        ready = self._downstreams[tool.downstream].status.state == "connected" and self._runner.free_slots > 0
        if ready:
            return admit(Event.START, lease=self._runner.lease, dedupe=dedupe, note=note, detail=detail)
        return admit(Event.ADMIT, dedupe=dedupe, note=note, detail=detail)

    async def _answered_by_another(self, request: CallRequest, tool: Tool, call: NewCall, result: WriteResult) -> Reply:
        match result:
            case Replayed(found) | Joined(found):
                return await self._answer_for(request, tool, found)
            case Conflict(call_id):
                raise _conflict(tool, call.key or "", call_id)
            case Purged():
                raise _purged(tool, call.key or "")
            case _:
                raise TypeError(f"admission was answered with {result!r}")

    async def _answer_for(self, request: CallRequest, tool: Tool, found: Call) -> Reply:
        """Let `found` answer for `request`: replayed where it had ended, joined where it is open."""
        replayed = found.ended and found.key is not None
        self._store.commit_soon((Note(found.id, "replayed" if replayed else "joined", request.principal.id),))
        with self._waiters.expect(found.id) as future:
            call = await self._as_it_stands(found) if found.state in PROGRESSING else found
            call = await self._inline(request, tool, call, future)
        return Reply(call, replayed=replayed, joined=not replayed)

    async def _inline(self, request: CallRequest, tool: Tool, call: Call, future: asyncio.Future[Call]) -> Call:
        """`call` once it has ended, is parked or in doubt, or as it stands when this client has waited long enough."""
        if call.state not in PROGRESSING:
            return call
        try:
            done, _ = await asyncio.wait((future,), timeout=self._inline_wait_s(request, tool))
        except asyncio.CancelledError:
            if call.key is None:
                self._runner.withdraw_detached(call.id)
            raise
        return future.result() if done else await self._as_it_stands(call)

    async def _as_it_stands(self, call: Call) -> Call:
        """`call` as stored now; as it was where the store is in trouble, since it was admitted all the same."""
        try:
            return await self._store.get_call(call.id) or call
        except StoreError as error:
            log.error("a call could not be read", extra={"call": call.id, "error": str(error)})
            return call

    def _inline_wait_s(self, request: CallRequest, tool: Tool) -> float:
        if request.inline_wait_s is not None:
            return request.inline_wait_s
        configured = tool.settings.inline_wait_s
        return configured if configured is not None else self._settings.inline_wait_s


def _recorded(call: NewCall, outcome: Outcome, took_s: float) -> Call:
    """The call that `Record` will store, for the reply that does not wait for it."""
    now = time.time()
    fields = {name: getattr(call, name) for name in NewCall.__dataclass_fields__}
    return Call(
        **fields,
        state=State.DONE if outcome.kind is OutcomeKind.RESULT else State.FAILED,
        created_at=now - took_s,
        updated_at=now,
        ended_at=now,
        outcome=outcome,
        delivered=True,
        fence=1,
    )


def _conflict(tool: Tool, key: str, call_id: str) -> KeyConflict:
    return KeyConflict(
        f'The idempotency key "{key}" of {tool.name} was already used with other arguments, by call {call_id}. '
        "Nothing ran. Send the same arguments to get that call's outcome, or a new key for a new call."
    )


def _purged(tool: Tool, key: str) -> OutcomePurged:
    return OutcomePurged(
        f'The call of {tool.name} with the idempotency key "{key}" was executed and its outcome is no longer kept. '
        "It was not executed again. Use a new key for a new call."
    )
