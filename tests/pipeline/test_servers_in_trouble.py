"""Servers that are slow or do not answer: places and the queue, the circuit breaker, the retry budget."""

import os
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from holdfast_store.model.errors import BreakerOpen, Overloaded
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import OutcomeKind, VerdictKind
from holdfast_tools.downstream.breaker import BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms, RetryBudget

NOT_SOON_MS = 2_000
HASTY = {"ledger__write": {"timeout": "50ms"}}


@pytest.fixture
def narrow(opened, workspace):
    """An engine whose one downstream has one place, and room for one more call in its queue."""

    def open_narrow(**settings: Any) -> AbstractAsyncContextManager[Any]:
        servers = {
            "ledger": {**workspace.ledger_downstream(), "max_concurrency": 1, "max_queue": 1},
            "other": workspace.ledger_downstream("--list-delay-ms", "1"),
        }
        return opened(mcpServers=servers, **settings)

    return open_narrow


def gate_of(inside):
    return inside.assembly.downstreams["ledger"].gate


async def ask(inside, tool: str, arguments: Mapping[str, Any], **more: Any):
    """Ask for a call and take what there is of it at once."""
    return (await inside.call(f"ledger__{tool}", arguments, inline_wait_s=0.0, **more)).call


async def lose_answers(inside, count: int) -> None:
    for n in range(count):
        lost = await inside.call("ledger__write", {"n": 100 + n, "delay_ms": NOT_SOON_MS})
        assert lost.call.state is State.IN_DOUBT


async def kill_once_sent(inside) -> None:
    """Kill the downstream as soon as it has the one call that is under way."""
    downstream = inside.assembly.downstreams["ledger"]
    with anyio.fail_after(20.0):
        while gate_of(inside).status.under_way == 0 or not all(each.sent for each in downstream._under_way):
            await anyio.sleep(0.01)
    os.kill(inside.downstream_pid(), signal.SIGKILL)


async def test_a_call_waits_in_the_queue_until_a_place_is_free(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            first = await ask(inside, "write", {"n": 1})
            second = await ask(inside, "write", {"n": 2})
            assert (first.state, second.state) == (State.RUNNING, State.QUEUED)
            assert gate_of(inside).status.queued == 1
        for call in (first, second):
            await inside.until(call.id, State.DONE)
        assert await inside.events(second.id) == ["admit", "claim", "settle"]
        admitted = (await inside.store.journal(second.id))[0]
        assert admitted.detail["waits_for"] == "1 of 1 places at the downstream 'ledger' are taken, and others wait: 0"
        assert [effect.arguments["n"] for effect in inside.workspace.ledger.effects()] == [1, 2]
        assert (gate_of(inside).status.under_way, gate_of(inside).status.queued) == (0, 0)


async def test_reads_wait_in_the_same_queue(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            await ask(inside, "write", {"n": 1})
            read = await ask(inside, "read", {"n": 2})
            assert read.state is State.QUEUED
        assert (await inside.until(read.id, State.DONE)).outcome.payload["content"][0]["text"] == "read 2"


async def test_one_too_many_is_turned_away_with_its_key_as_free_as_before(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            waiting = [await ask(inside, "write", {"n": n}) for n in (1, 2)]
            for more in ({}, {"key": "k"}):
                with pytest.raises(Overloaded) as turned_away:
                    await ask(inside, "write", {"n": 3}, **more)
            with pytest.raises(Overloaded):
                await ask(inside, "read", {"n": 4})
        assert turned_away.value.retry_after_s >= 1
        assert f"may be made again in {turned_away.value.retry_after_s} s" in str(turned_away.value)
        for call in waiting:
            await inside.until(call.id, State.DONE)
        reply = await inside.call("ledger__write", {"n": 3}, key="k")
        assert (reply.call.state, reply.replayed) == (State.DONE, False)
        assert len(inside.workspace.ledger.effects()) == 3


async def test_a_repeat_is_answered_by_the_call_that_it_repeats_however_full_it_is(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            first = await ask(inside, "write", {"n": 1}, client_call_id="same")
            await ask(inside, "write", {"n": 2})
            reply = await inside.call("ledger__write", {"n": 1}, client_call_id="same", inline_wait_s=0.0)
            assert (reply.call.id, reply.joined) == (first.id, True)
        await inside.until(first.id, State.DONE)


async def test_a_full_server_does_not_disturb_its_neighbour(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            for n in (1, 2):
                await ask(inside, "write", {"n": n})
            reply = await inside.call("other__write", {"n": 3})
            assert reply.call.state is State.DONE


async def test_an_approved_call_is_never_turned_away(narrow, approver):
    async with narrow() as inside:
        parked = await inside.call("ledger__destroy", {"n": 9})
        approval_id = await inside.approval_of(parked.call)
        with inside.taking_nothing():
            for n in (1, 2):
                await ask(inside, "write", {"n": n})
            await inside.operations.decide(approval_id, approver, VerdictKind.APPROVE, "")
        await inside.until(parked.call.id, State.DONE)


async def test_a_call_that_is_withdrawn_makes_room_in_the_queue(narrow, approver):
    async with narrow() as inside:
        with inside.taking_nothing():
            await ask(inside, "write", {"n": 1})
            second = await ask(inside, "write", {"n": 2})
            await inside.assembly.runner.cancel(second, "local")
            third = await ask(inside, "write", {"n": 3})
            assert third.state is State.QUEUED
        await inside.until(third.id, State.DONE)
        assert [effect.arguments["n"] for effect in inside.workspace.ledger.effects()] == [1, 3]


async def test_who_waited_before_a_restart_stands_before_all_newcomers(narrow):
    async with narrow() as inside:
        with inside.taking_nothing():
            await ask(inside, "read", {"n": 1})
            waiting = await ask(inside, "write", {"n": 2})
            assert waiting.state is State.QUEUED
            inside.assembly.runner._slots.closed = True
    async with narrow() as inside:
        await inside.until(waiting.id, State.DONE)
        assert gate_of(inside).status.queued == 0


async def test_a_read_whose_answer_is_lost_as_the_breaker_opens_says_that_it_was_sent(opened):
    async with opened(tools=HASTY) as inside:
        await lose_answers(inside, BreakerTerms().failures_to_open - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_once_sent, inside)
            ended = (await inside.call("ledger__read", {"n": 1, "delay_ms": NOT_SOON_MS})).call
        assert ended.outcome.kind is OutcomeKind.ERROR
        assert "it was not tried again: the downstream 'ledger' is left alone" in ended.outcome.message


async def test_lost_answers_in_a_row_keep_new_calls_away_until_one_is_answered(opened, clock):
    async with opened(tools=HASTY) as inside:
        await lose_answers(inside, BreakerTerms().failures_to_open)
        effects = len(inside.workspace.ledger.effects())
        clock.ahead_s -= 3600.0  # the pause does not end while this looks at it
        for tool in ("read", "write"):
            with pytest.raises(BreakerOpen) as turned_away:
                await ask(inside, tool, {"n": 1})
            assert "answers in a row were lost" in str(turned_away.value)
            assert turned_away.value.retry_after_s >= 1
        assert len(inside.workspace.ledger.effects()) == effects
        assert gate_of(inside).status.breaker == "open"
        clock.pass_by(2 * 3600.0)
        assert (await inside.call("ledger__read", {"n": 2})).call.state is State.DONE
        assert gate_of(inside).status.breaker == "closed"


async def test_errors_of_a_tool_do_not_open_the_breaker(inside):
    for n in range(BreakerTerms().failures_to_open + 1):
        assert (await inside.call("ledger__fail", {"n": n})).call.outcome.kind is OutcomeKind.TOOL_ERROR
    assert gate_of(inside).status.failures == 0


async def test_an_approved_call_waits_for_the_breaker_and_goes_first(opened, clock, approver):
    async with opened(tools=HASTY) as inside:
        parked = await inside.call("ledger__destroy", {"n": 9})
        approval_id = await inside.approval_of(parked.call)
        await lose_answers(inside, BreakerTerms().failures_to_open)
        gate_of(inside)._clock = lambda: clock() - 3600.0
        await inside.operations.decide(approval_id, approver, VerdictKind.APPROVE, "")
        with anyio.fail_after(20):
            while "breaker_open" not in await inside.events(parked.call.id):
                await anyio.sleep(0.01)
        assert (await inside.store.get_call(parked.call.id)).state is State.QUEUED
        gate_of(inside)._clock = lambda: clock() + 3600.0
        await inside.until(parked.call.id, State.DONE)
        events = await inside.events(parked.call.id)
        assert events == ["park", "approve", "breaker_open", "breaker_probe", "claim", "settle"]


async def test_a_server_that_ends_with_each_call_is_left_alone_in_the_end(opened):
    async with opened(tools=HASTY) as inside:
        terms = BreakerTerms()
        for n in range(terms.failures_to_open):
            assert await inside.assembly.downstreams["ledger"].connected(20)
            call = await ask(inside, "slow", {"n": n, "delay_ms": 60_000})
            await inside.until_begun("slow", n + 1)
            os.kill(inside.downstream_pid(), signal.SIGKILL)
            await inside.until(call.id, State.IN_DOUBT)
        assert gate_of(inside).status.failures == terms.failures_to_open


async def test_a_call_is_not_tried_again_when_the_retries_are_used_up(opened):
    safe = {"ledger__write": {"timeout": "50ms", "annotations": {"idempotentHint": True}}}
    async with opened(tools=safe) as inside:
        gate_of(inside)._budget = RetryBudget(BudgetTerms(0.0, 0.0, 0.0), 0.0, 0.0)
        reply = await inside.call("ledger__write", {"n": 1, "delay_ms": NOT_SOON_MS})
        assert (reply.call.state, reply.call.losses) == (State.FAILED, 1)
        assert "the retry budget of 'ledger' is used up" in reply.call.outcome.message
        assert await inside.events(reply.call.id) == ["start", "fail"]
        assert "retry_budget" in (await inside.store.journal(reply.call.id))[-1].detail


async def test_an_error_is_final_when_the_retries_are_used_up(opened):
    async with opened(tools={"ledger__fail": {"retries": {"max_attempts": 3}}}) as inside:
        gate_of(inside)._budget = RetryBudget(BudgetTerms(0.0, 0.0, 0.0), 0.0, 0.0)
        reply = await inside.call("ledger__fail", {"n": 1})
        assert reply.call.outcome.kind is OutcomeKind.TOOL_ERROR
        assert len(inside.workspace.ledger.effects()) == 1
        assert "retry_budget" in (await inside.store.journal(reply.call.id))[-1].detail
