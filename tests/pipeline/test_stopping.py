"""An engine that stops: what is under way ends, nothing new begins, and what was not sent waits for the next one."""

import anyio
from mcp import Client

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import VerdictKind


async def test_a_draining_engine_begins_nothing(inside, approver):
    parked = (await inside.call("ledger__destroy", {"n": 1})).call
    async with anyio.create_task_group() as clients:
        clients.start_soon(inside.call, "ledger__slow", {"n": 1, "delay_ms": 600})
        await inside.until_begun("slow")
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(inside.assembly.runner.drain, 5)
            await anyio.wait_all_tasks_blocked()
            await inside.operations.decide(await inside.approval_of(parked), approver, VerdictKind.APPROVE, "")
            late = await inside.call("ledger__write", {"n": 2}, inline_wait_s=0.1)
    assert late.call.state is State.QUEUED
    assert (await inside.store.get_call(parked.id)).state is State.QUEUED
    assert [effect.tool for effect in inside.workspace.ledger.effects()] == ["slow"]


async def test_what_a_stopping_engine_never_sent_is_queued_and_not_in_doubt(opened):
    async with opened(inline_wait="50ms") as inside:
        with inside.taking_nothing():
            call = (await inside.call("ledger__write", {"n": 1})).call
            assert call.state is State.RUNNING
            assert not await inside.assembly.runner.drain(0)
        assert (await inside.store.get_call(call.id)).state is State.QUEUED
    async with opened() as inside:
        await inside.until(call.id, State.DONE)
        assert len(inside.workspace.ledger.effects("write")) == 1


async def test_a_stopping_engine_still_hands_out_what_it_waited_for(workspace):
    workspace.write_config()
    answers = []
    async with Client(workspace.server(), cache=None) as client:
        await client.list_tools()

        async def call() -> None:
            answers.append(await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 1500}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            with anyio.fail_after(20):
                while not workspace.ledger.effects("slow"):
                    await anyio.sleep(0.02)
            stopped = await anyio.to_thread.run_sync(lambda: workspace.run("engine", "stop", str(workspace.config)))
            assert stopped.returncode == 0, stopped.stderr
    assert answers[0].content[0].text.startswith("slow 1 as")
