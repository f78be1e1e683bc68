"""Deadlines: what is not sent by then never is, and what was sent has its time."""

from functools import partial

import anyio
import pytest

from holdfast_store.contract import Admit
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import OutcomeKind


@pytest.fixture
def narrow_settings(workspace):
    return {"mcpServers": {"ledger": {**workspace.ledger_downstream(), "max_concurrency": 1}}}


async def expired(inside, call):
    call = await inside.until(call.id, State.FAILED)
    assert call.outcome.kind is OutcomeKind.EXPIRED
    assert inside.workspace.ledger.effects("write") == []
    return call


async def test_a_call_that_is_queued_past_its_deadline_expires_unsent(opened, narrow_settings, clock):
    async with opened(**narrow_settings) as inside:
        with inside.taking_nothing():
            await inside.call("ledger__destroy", {"n": 1})
            await inside.call("ledger__break", {"n": 2}, inline_wait_s=0.0)
            late = await inside.call("ledger__write", {"n": 3}, inline_wait_s=0.0, deadline_s=600.0)
            assert late.call.state is State.QUEUED
            clock.pass_by(601.0)
            await expired(inside, late.call)


async def test_a_call_that_cannot_be_sent_before_its_deadline_is_not_sent_after_it(inside):
    with inside.taking_nothing():
        reply = await inside.call("ledger__write", {"n": 1}, inline_wait_s=0.0, deadline_s=0.1)
        call = await expired(inside, reply.call)
    assert await inside.events(call.id) == ["start", "retry", "expire"]


async def test_a_commit_that_outlasts_the_deadline_sends_nothing(inside):
    call = partial(inside.call, "ledger__write", {"n": 1}, inline_wait_s=0.0, deadline_s=0.1)
    with inside.late_answers(Admit) as late:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await late.reached.wait()
            await anyio.sleep(0.1)  # the deadline itself
            late.let_go()
    ended = await expired(inside, await inside.only_call())
    assert await inside.events(ended.id) == ["start", "retry", "expire"]


async def test_a_write_that_was_sent_is_not_cut_by_its_deadline(inside):
    reply = await inside.call("ledger__write", {"n": 1, "delay_ms": 700}, deadline_s=0.5)
    assert (reply.call.state, len(inside.workspace.ledger.effects())) == (State.DONE, 1)


async def test_waiting_for_approval_counts(opened, clock):
    async with opened(tools={"ledger__destroy": {"deadline": "10m"}}) as inside:
        parked = await inside.call("ledger__destroy", {"n": 1})
        clock.pass_by(601.0)
        inside.assembly.runner.wake()
        await expired(inside, parked.call)


async def test_the_shorter_of_two_deadlines_counts(opened):
    async with opened(tools={"ledger__destroy": {"deadline": "10m"}}) as inside:
        shorter = await inside.call("ledger__destroy", {"n": 1}, deadline_s=60.0)
        longer = await inside.call("ledger__destroy", {"n": 2}, deadline_s=6000.0)
        assert (shorter.call.deadline_s, longer.call.deadline_s) == (60.0, 600.0)
