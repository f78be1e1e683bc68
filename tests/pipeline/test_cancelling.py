"""Cancels, and clients that go away: what is withdrawn, what goes on, and what is never sent."""

import anyio
import anyio.lowlevel
import pytest

from holdfast_store.contract import Admit, Claim
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, VerdictKind

DEADLINE_S = 20.0


async def test_what_is_cancelled_before_it_was_sent_is_never_sent(opened):
    async with opened(inline_wait="50ms") as inside:
        with inside.taking_nothing():
            call = (await inside.call("ledger__write", {"n": 1})).call
            assert call.state is State.RUNNING
        assert (await inside.operations.cancel(call, LOCAL)).state is State.CANCELLED
        await inside.call("ledger__write", {"n": 2}, inline_wait_s=10)
        assert [effect.arguments["n"] for effect in inside.workspace.ledger.effects("write")] == [2]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_what_was_unsent_when_it_was_abandoned_is_never_sent(opened, workspace, processes, transport):
    downstream = workspace.ledger_downstream()
    if transport == "http":
        command = [downstream["command"], *downstream["args"], "--http", "0"]
        served = processes.start(command, environment={**workspace.environment, **downstream.get("env", {})})
        downstream = {"url": served.wait_for(r"listening on (\S+)", 20).group(1)}
    async with opened(mcpServers={"ledger": downstream}) as inside:
        owner = inside.assembly.downstreams["ledger"]
        unsent = set()
        for turns in range(40):
            dispatch = owner.dispatch("write", {"n": turns}, meta={}, read_only=False)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            if not dispatch.sent:
                unsent.add(turns)
            dispatch.abandon()
        reply = await inside.call("ledger__write", {"n": 1000})
        assert reply.call.state is State.DONE
        await anyio.sleep(0.5)
        written = {effect.arguments["n"] for effect in inside.workspace.ledger.effects("write")}
        assert unsent
        assert not unsent & written
        assert owner.status.state == "connected"


async def test_a_cancel_that_meets_a_claim_still_cancels_what_was_not_sent(inside, approver):
    call = (await inside.call("ledger__destroy", {"n": 1})).call
    with inside.late_answers(Claim) as disk:
        await inside.operations.decide(await inside.approval_of(call), approver, VerdictKind.APPROVE, "")
        await disk.reached.wait()
        assert (await inside.operations.cancel(call, LOCAL)).state is State.CANCELLED
    with anyio.fail_after(DEADLINE_S):
        while inside.assembly.runner.is_under_way(call.id):
            await anyio.sleep(0.01)
    assert await inside.events(call.id) == ["park", "approve", "claim", "cancel"]
    assert inside.workspace.ledger.effects() == []


async def test_a_cancel_with_an_outdated_view_of_the_call_leaves_nothing_stuck(opened):
    async with opened(tools={"ledger__fail": {"retries": {"max_attempts": 2}}}, inline_wait="20ms") as inside:
        first = (await inside.call("ledger__fail", {"n": 1, "delay_ms": 100})).call
        assert (first.state, first.fence) == (State.RUNNING, 1)
        with inside.late_answers(Claim) as disk:
            await disk.reached.wait()
            assert (await inside.operations.cancel(first, LOCAL)).state is State.CANCELLED
        assert len(inside.workspace.ledger.effects("fail")) == 1


async def test_what_was_cancelled_while_under_way_is_not_tried_again(opened):
    async with opened(tools={"ledger__fail": {"retries": {"max_attempts": 5}}}, inline_wait="20ms") as inside:
        call = (await inside.call("ledger__fail", {"n": 1, "delay_ms": 200})).call
        await inside.until_begun("fail")
        assert (await inside.operations.cancel(call, LOCAL)).cancel_requested
        ended = await inside.until(call.id, State.CANCELLED, State.FAILED)
        assert len(inside.workspace.ledger.effects("fail")) == 1
        assert ended.state is State.CANCELLED


async def test_a_cancel_request_stands_in_the_timeline(opened):
    async with opened(inline_wait="20ms") as inside:
        call = (await inside.call("ledger__slow", {"n": 1, "delay_ms": 300})).call
        await inside.until_begun("slow")
        await inside.operations.cancel(call, LOCAL)
        assert await inside.events(call.id) == ["start", "cancel_requested"]


@pytest.mark.parametrize("tool", ["write", "read"])
async def test_a_client_that_goes_away_while_its_call_is_admitted_leaves_a_call_that_runs(opened, tool):
    async with opened(inline_wait="50ms") as inside:
        with inside.late_answers(Admit) as disk:
            async with anyio.create_task_group() as clients:
                clients.start_soon(inside.call, f"ledger__{tool}", {"n": 1, "delay_ms": 200})
                await disk.reached.wait()
                clients.cancel_scope.cancel()
        await inside.until((await inside.only_call()).id, State.DONE)


async def test_a_queued_call_that_nobody_waits_for_is_withdrawn(opened, workspace):
    slow_start = {"ledger": workspace.ledger_downstream("--start-delay-ms", "1500")}
    async with opened(mcpServers=slow_start) as inside:
        await inside.restart_downstream()
        async with anyio.create_task_group() as clients:
            clients.start_soon(inside.call, "ledger__write", {"n": 1})
            await anyio.sleep(0.2)
            clients.cancel_scope.cancel()
        call = await inside.only_call()
        await inside.until(call.id, State.CANCELLED)
        assert inside.workspace.ledger.effects() == []


async def test_a_detached_call_that_another_client_joined_is_kept(opened, workspace):
    slow_start = {"ledger": workspace.ledger_downstream("--start-delay-ms", "1500")}
    async with opened(mcpServers=slow_start) as inside:
        await inside.restart_downstream()
        replies = []

        async def client() -> None:
            replies.append(await inside.call("ledger__write", {"n": 1}, inline_wait_s=10))

        async with anyio.create_task_group() as second, anyio.create_task_group() as first:
            first.start_soon(client)
            await anyio.sleep(0.1)
            inside.clock.pass_by(1)
            second.start_soon(client)
            await anyio.sleep(0.1)
            first.cancel_scope.cancel()
        assert [reply.call.state for reply in replies] == [State.DONE]
