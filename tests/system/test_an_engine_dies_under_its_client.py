"""`kill -9` of the engine, of a downstream and of a client, while calls are under way."""

import anyio
import pytest
from asking import (
    DEADLINE_S,
    KEY,
    POLL_S,
    RESTARTED,
    engine_pid,
    engines,
    kill,
    over_stdio,
    record,
    shims,
    until,
    words,
)
from mcp.shared.exceptions import MCPError

LATE_START_MS = 1500
LONG_MS = 30_000


async def in_flight(workspace, tool: str, count: int = 1) -> list:
    """The effects of `tool`, once `count` of them have begun."""
    await until(lambda: len(workspace.ledger.effects(tool)) >= count, f"the beginning of {count} {tool}")
    return workspace.ledger.effects(tool)


async def call_cut_off(client, tool: str, arguments: dict, **options) -> None:
    """Ask for something whose answer an engine takes with it when it dies."""
    with pytest.raises(MCPError) as cut:
        await client.call_tool(tool, arguments, **options)
    assert cut.value.error.code == -32000
    assert cut.value.error.message == RESTARTED


async def tasks_of(client) -> dict[tuple[str, int], dict]:
    """What `holdfast__list_tasks` says, by tool and `n`."""
    tasks = (await client.call_tool("holdfast__list_tasks", {})).structured_content["tasks"]
    return {task["task_id"]: task for task in tasks}


async def test_the_request_under_way_is_told_and_the_next_one_works_on_the_same_connection(workspace, operator, era):
    workspace.write_config()
    async with over_stdio(workspace, era) as client:
        parked = record(await client.call_tool("ledger__destroy", {"n": 1}))
        before = engine_pid(workspace)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_cut_off, client, "ledger__slow", {"n": 2, "delay_ms": LONG_MS})
            await in_flight(workspace, "slow")
            await kill(before)

        result = await client.call_tool("ledger__write", {"n": 3})
        assert words(result).startswith("write 3 as ")
        assert engine_pid(workspace) != before
        assert engines(workspace) == [engine_pid(workspace)]
        listed = await tasks_of(client)
        assert {task["tool"]: task["status"] for task in listed.values()} == {
            "ledger__destroy": "waiting_for_approval",
            "ledger__slow": "in_doubt",
            "ledger__write": "done",
        }

        await operator.approve(parked["id"])
        result = await client.call_tool("holdfast__wait_task", {"task_id": parked["id"], "timeout_s": DEADLINE_S})
        assert words(result).startswith("destroy 1 as ")
    assert [effect.arguments["n"] for effect in workspace.ledger.effects()] == [2, 3, 1]


async def test_a_read_under_way_is_sent_again_and_a_repeat_with_its_key_gets_its_answer(workspace, operator, era):
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "inline_wait": "30s"})
    meta = {KEY: "the-read"}
    read = ("ledger__read", {"n": 7, "delay_ms": 1000})
    async with over_stdio(workspace, era) as client:
        await client.list_tools()
        async with anyio.create_task_group() as tasks:

            async def cut_off() -> None:
                await call_cut_off(client, *read, meta=meta)

            tasks.start_soon(cut_off)
            with anyio.fail_after(DEADLINE_S):
                while not (await operator.ask("list_calls", status="running"))["calls"]:
                    await anyio.sleep(POLL_S)
            await kill(engine_pid(workspace))
        result = await client.call_tool(*read, meta=meta)
    assert words(result).startswith("read 7")
    assert record(result)["attempts"] == 2
    timeline = (await operator.ask("get_call", call_id=record(result)["id"]))["timeline"]
    assert [entry["event"] for entry in timeline if entry["event"] in ("start", "retry", "claim", "settle")] == [
        "start",
        "retry",
        "claim",
        "settle",
    ]


async def test_what_was_queued_and_what_was_approved_runs_in_the_next_engine(workspace, operator):
    late = workspace.ledger_downstream("--start-delay-ms", str(LATE_START_MS))
    workspace.write_config({"mcpServers": {"ledger": late}})
    async with over_stdio(workspace) as client:
        parked = record(await client.call_tool("ledger__destroy", {"n": 1}))
        # The next engine knows the tools from this one, and what it is asked for waits while the downstream starts.
        await kill(engine_pid(workspace))
        await operator.approve(parked["id"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_cut_off, client, "ledger__write", {"n": 2})
            with anyio.fail_after(DEADLINE_S):
                while len((await operator.ask("list_calls", status="queued"))["calls"]) < 2:
                    await anyio.sleep(POLL_S)
            assert workspace.ledger.effects() == []
            await kill(engine_pid(workspace))
        await client.list_tools()
        calls = {call["tool"]: call["id"] for call in (await operator.ask("list_calls"))["calls"]}
        for call_id in calls.values():
            assert (await operator.settled(call_id))["status"] == "done"
    assert sorted(effect.arguments["n"] for effect in workspace.ledger.effects()) == [1, 2]


async def test_a_downstream_that_dies_leaves_its_write_in_doubt_its_read_is_retried_and_its_neighbour_works(
    workspace, operator, era
):
    workspace.write_config(
        {
            "mcpServers": {
                "ledger": workspace.ledger_downstream(),
                "other": workspace.ledger_downstream("--list-delay-ms", "0"),
            }
        }
    )
    answers = {}
    async with over_stdio(workspace, era) as client:

        async def ask(name: str, tool: str, arguments: dict, key: str | None = None) -> None:
            answers[name] = await client.call_tool(tool, arguments, meta={KEY: key} if key else None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "write", "ledger__slow", {"n": 1, "delay_ms": LONG_MS})
            tasks.start_soon(ask, "read", "ledger__read", {"n": 2, "delay_ms": 1000}, "k")
            (effect,) = await in_flight(workspace, "slow")
            with anyio.fail_after(DEADLINE_S):
                while len((await operator.ask("list_calls", status="running"))["calls"]) < 2:
                    await anyio.sleep(POLL_S)
            await kill(effect.pid)
            tasks.start_soon(ask, "neighbour", "other__write", {"n": 3})
            tasks.start_soon(ask, "next", "ledger__write", {"n": 4})
    assert record(answers["write"])["status"] == "in_doubt"
    assert words(answers["write"]).startswith("Outcome unknown")
    assert words(answers["read"]).startswith("read 2")
    assert record(answers["read"])["attempts"] == 2
    assert words(answers["neighbour"]).startswith("write 3 as ")
    assert words(answers["next"]).startswith("write 4 as ")
    assert sorted(effect.arguments["n"] for effect in workspace.ledger.effects()) == [1, 3, 4]


async def test_a_client_that_dies_leaves_its_write_to_finish_and_the_next_client_joins_the_outcome(
    workspace, operator, era
):
    workspace.write_config()
    write = ("ledger__write", {"n": 1, "delay_ms": 1000})
    async with over_stdio(workspace, era) as first, anyio.create_task_group() as tasks:

        async def cut_off() -> None:
            with pytest.raises(MCPError):
                await first.call_tool(*write)

        tasks.start_soon(cut_off)
        await in_flight(workspace, "write")
        (shim,) = shims(workspace)
        await kill(shim)
    await until(lambda: workspace.ledger.effects()[0].done, "the end of the effect")
    (call,) = (await operator.ask("list_calls"))["calls"]
    assert (await operator.settled(call["id"]))["status"] == "done"
    async with over_stdio(workspace, era) as second:
        result = await second.call_tool(*write)
        assert record(result)["id"] == call["id"]
        assert record(result)["joined"]
        assert words(result).startswith(f"write 1 as {workspace.ledger.effects()[0].id}")
        again = await second.call_tool(*write)
    assert not record(again)["joined"], "an outcome that was delivered answers no later call"
    assert len(workspace.ledger.effects()) == 2
