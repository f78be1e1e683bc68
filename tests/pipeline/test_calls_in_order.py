"""Tools whose calls run one at a time: in the order in which they became runnable, whatever else is under way."""

import asyncio
import os
import signal
from typing import Any

import pytest

from holdfast_store.model.errors import Overloaded
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import OutcomeKind, Principal, VerdictKind

LONG_MS = 600_000


def ordered(tool: str = "write", by: str | None = "/ref") -> dict[str, Any]:
    """The setting: calls of `tool` in order, by an argument or altogether."""
    return {"tools": {f"ledger__{tool}": {"order": "on" if by is None else {"by": by}}}}


async def ask(inside, n: int, ref: str | None = None, *, tool: str = "write", delay_ms: int = 0, **more: Any):
    """A call of the tool, as it stands as soon as it is admitted."""
    arguments = {"n": n, "delay_ms": delay_ms} | ({} if ref is None else {"ref": ref})
    reply = await inside.call(f"ledger__{tool}", arguments, at_once=True, **more)
    return reply.call


def numbers(inside, tool: str = "write") -> list[int]:
    """The effects that began, in order."""
    return [effect.arguments["n"] for effect in inside.workspace.ledger.effects(tool)]


async def details(inside, call_id: str) -> dict[str, dict[str, Any]]:
    """The details of a call's timeline, by event."""
    return {str(entry.event): entry.detail for entry in await inside.store.journal(call_id)}


async def test_calls_run_one_at_a_time_in_the_order_of_their_admission(opened):
    async with opened(**ordered(by=None)) as inside:
        calls = [await ask(inside, n, delay_ms=20) for n in range(8)]
        for call in calls:
            await inside.until(call.id, State.DONE)
        assert numbers(inside) == list(range(8))
        assert inside.workspace.ledger.overlaps("write") == []


async def test_calls_with_other_values_run_beside_them(opened):
    async with opened(**ordered()) as inside:
        first = await ask(inside, 1, "a", delay_ms=LONG_MS)
        waiting = await ask(inside, 2, "a")
        await inside.until_begun("write")
        other = await ask(inside, 3, "b")
        await inside.until(other.id, State.DONE)
        assert (first.state, waiting.state) == (State.RUNNING, State.QUEUED)
        assert numbers(inside) == [1, 3]
        assert (await inside.store.get_call(waiting.id)).state is State.QUEUED


async def test_calls_without_the_value_form_a_line_of_their_own(opened):
    async with opened(**ordered()) as inside:
        await ask(inside, 1, delay_ms=LONG_MS)
        assert (await ask(inside, 2)).state is State.QUEUED
        assert (await ask(inside, 3, "a")).state is State.RUNNING


async def test_the_lines_of_tenants_are_their_own(opened):
    async with opened(**ordered(by=None)) as inside:
        await ask(inside, 1, delay_ms=LONG_MS)
        assert (await ask(inside, 2)).state is State.QUEUED
        elsewhere = await ask(inside, 3, principal=Principal("ann", tenant="elsewhere"))
        await inside.until(elsewhere.id, State.DONE)


async def test_who_is_first_starts_in_the_commit_that_admits_it(opened):
    async with opened(**ordered()) as inside:
        call = await ask(inside, 1, "a")
        await inside.until(call.id, State.DONE)
        assert await inside.events(call.id) == ["start", "settle"]


async def test_the_timeline_says_for_whom_a_call_has_waited(opened):
    async with opened(**ordered()) as inside:
        first = await ask(inside, 1, "a", delay_ms=200)
        second = await ask(inside, 2, "a")
        await inside.until(second.id, State.DONE)
        assert await inside.events(second.id) == ["admit", "next_in_line", "claim", "settle"]
        told = await details(inside, second.id)
        assert told["admit"] == {"waits_for_call": first.id}
        assert told["next_in_line"]["waited_for_call"] == first.id
        assert told["next_in_line"]["waited_s"] > 0


async def test_a_parked_call_does_not_hold_the_line_and_joins_its_end_when_it_is_approved(opened, approver):
    async with opened(**ordered("destroy", by=None)) as inside:
        calls = [await ask(inside, n, tool="destroy", delay_ms=LONG_MS if n == 2 else 0) for n in range(4)]
        assert {call.state for call in calls} == {State.WAITING_FOR_APPROVAL}
        for n in (2, 3, 0):
            await inside.operations.decide(await inside.approval_of(calls[n]), approver, VerdictKind.APPROVE, "")
        await inside.until_begun("destroy")
        os.kill(inside.downstream_pid(), signal.SIGKILL)
        for n in (3, 0):
            await inside.until(calls[n].id, State.DONE)
        assert numbers(inside, "destroy") == [2, 3, 0]
        assert (await details(inside, calls[0].id))["approve"]["waits_for_call"] == calls[3].id


async def test_a_call_in_doubt_does_not_hold_the_line_and_a_retry_joins_its_end(opened, approver):
    async with opened(**ordered()) as inside:
        lost = await ask(inside, 1, "a", delay_ms=LONG_MS)
        await inside.until_begun("write")
        second = await ask(inside, 2, "a", delay_ms=500)
        third = await ask(inside, 3, "a")
        os.kill(inside.downstream_pid(), signal.SIGKILL)
        doubtful = await inside.until(lost.id, State.IN_DOUBT)
        await inside.until_begun("write", effects=2)
        await inside.operations.resolve(doubtful, approver, "retry", None, "it had no effect")
        await inside.until(third.id, State.DONE)
        await inside.until_begun("write", effects=4)
        assert numbers(inside) == [1, 2, 3, 1]
        assert inside.workspace.ledger.overlaps("write") == []
        assert (await details(inside, lost.id))["resolve_retry"]["waits_for_call"] == third.id
        assert (await inside.store.get_call(second.id)).state is State.DONE


async def test_a_call_holds_the_line_between_its_attempts(opened):
    tools = {"ledger__fail": {"order": "on", "retries": {"max_attempts": 2}}}
    async with opened(tools=tools) as inside:
        first = await ask(inside, 1, tool="fail")
        second = await ask(inside, 2, tool="fail")
        await inside.until(first.id, State.FAILED)
        await inside.until(second.id, State.FAILED)
        assert numbers(inside, "fail") == [1, 1, 2, 2]


async def test_a_deadline_that_passes_in_the_line_says_who_was_before(opened):
    async with opened(**ordered()) as inside:
        first = await ask(inside, 1, "a", delay_ms=LONG_MS)
        second = await ask(inside, 2, "a", deadline_s=60.0)
        third = await ask(inside, 3, "a")
        inside.clock.pass_by(61)
        inside.assembly.runner.wake()
        ended = await inside.until(second.id, State.FAILED)
        assert ended.outcome.kind is OutcomeKind.EXPIRED
        assert ended.outcome.message == (
            f"Its deadline passed before it could start: call {first.id} was before it in its line."
        )
        assert (await inside.store.get_call(third.id)).state is State.QUEUED


async def test_a_cancelled_call_leaves_the_line_to_the_next(opened, approver):
    async with opened(**ordered()) as inside:
        first = await ask(inside, 1, "a", delay_ms=300)
        second = await ask(inside, 2, "a")
        third = await ask(inside, 3, "a")
        await inside.operations.cancel(second, approver)
        await inside.until(third.id, State.DONE)
        assert numbers(inside) == [1, 3]
        assert (await details(inside, third.id))["next_in_line"]["waited_for_call"] == first.id


async def test_a_repeat_joins_the_call_that_waits_in_the_line(opened):
    async with opened(**ordered()) as inside:
        await ask(inside, 1, "a", delay_ms=LONG_MS)
        waiting = await ask(inside, 2, "a", key="k")
        assert (await ask(inside, 2, "a", key="k")).id == waiting.id


async def test_who_waits_in_a_line_keeps_nobody_from_a_place(opened, workspace):
    ledger = {**workspace.ledger_downstream(), "max_concurrency": 2}
    async with opened(mcpServers={"ledger": ledger}, **ordered()) as inside:
        await ask(inside, 1, "a", delay_ms=LONG_MS)
        for n in range(2, 6):
            await ask(inside, n, "a")
        gate = inside.assembly.downstreams["ledger"].gate
        assert (gate.status.under_way, gate.status.queued, gate.status.in_line) == (1, 0, 4)
        other = await ask(inside, 9, "b")
        await inside.until(other.id, State.DONE)
        assert await inside.events(other.id) == ["start", "settle"]


async def test_only_so_many_newcomers_wait_in_lines_and_others_are_not_turned_away_for_them(opened, workspace):
    ledger = {**workspace.ledger_downstream(), "max_queue": 2}
    async with opened(mcpServers={"ledger": ledger}, **ordered()) as inside:
        await ask(inside, 1, "a", delay_ms=LONG_MS)
        waiting = await ask(inside, 2, "a", key="k")
        await ask(inside, 3, "a")
        with pytest.raises(Overloaded, match="2 calls of the downstream 'ledger' wait for those before them"):
            await ask(inside, 4, "a")
        assert (await ask(inside, 2, "a", key="k")).id == waiting.id
        other = await ask(inside, 5, "b")
        await inside.until(other.id, State.DONE)


async def test_an_ordered_read_waits_for_its_turn_as_well(opened):
    async with opened(**ordered("read", by=None)) as inside:
        first = await ask(inside, 1, tool="read", delay_ms=300)
        second = await ask(inside, 2, tool="read")
        assert (first.state, second.state) == (State.RUNNING, State.QUEUED)
        await inside.until(second.id, State.DONE)


async def test_calls_asked_for_at_once_run_in_the_order_in_which_they_were_stored(opened):
    async with opened(**ordered(by=None)) as inside:
        replies = await asyncio.gather(*(ask(inside, n, delay_ms=5) for n in range(20)))
        for call in replies:
            await inside.until(call.id, State.DONE)
        stored = sorted([await inside.store.journal(call.id) for call in replies], key=lambda entries: entries[0].seq)
        places = {call.id: call.arguments["n"] for call in replies}
        assert numbers(inside) == [places[entries[0].call_id] for entries in stored]
        assert inside.workspace.ledger.overlaps("write") == []


async def test_the_next_engine_goes_on_where_the_line_stood(opened):
    async with opened(**ordered()) as inside:
        lost = await ask(inside, 1, "a", delay_ms=LONG_MS)
        waiting = [await ask(inside, n, "a", delay_ms=10) for n in range(2, 6)]
        await inside.until_begun("write")
    async with opened(**ordered()) as inside:
        for call in waiting:
            await inside.until(call.id, State.DONE)
        assert (await inside.store.get_call(lost.id)).state is State.IN_DOUBT
        assert numbers(inside) == [1, 2, 3, 4, 5]
        assert inside.workspace.ledger.overlaps("write") == []
        assert inside.assembly.downstreams["ledger"].gate.status.in_line == 0
