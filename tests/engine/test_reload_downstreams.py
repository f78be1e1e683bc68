"""Downstreams come, go and change while the engine runs, and no call is dropped for it."""

import anyio
import mcp_types as types
import pytest
from mcp.client.subscriptions import ToolsListChanged
from mcp.shared.exceptions import MCPError
from reloading import DEADLINE_S, QUIET_S, Heard, Reloadable, call_id, names, until, words
from support.processes import Processes, alive
from support.workspace import Workspace

LEDGER_TOOLS = ("break", "destroy", "fail", "read", "slow", "write")


@pytest.fixture
def engine(workspace: Workspace, processes: Processes) -> Reloadable:
    return Reloadable(workspace, processes)


def tools_of(*downstreams: str) -> set[str]:
    return {f"{name}__{tool}" for name in downstreams for tool in LEDGER_TOOLS}


async def test_a_call_that_waits_for_approval_survives_a_reload_and_runs_after_approval(engine: Reloadable) -> None:
    engine.write(inline_wait="1s")
    async with engine.over_stdio() as client:
        parked = call_id(await client.call_tool("ledger__destroy", {"n": 1}))
        downstream = await engine.downstream_pid()
        engine.write(inline_wait="2s", rules=[{"id": "watched", "effect": "allow", "match": {"tool": "ledger__read"}}])
        changed = await engine.reload()
        assert changed["rules"]["added"] == ["watched"]
        assert changed["settings"] == ["inline_wait"]
        assert changed["downstreams"]["unchanged"] == ["ledger"]

        await engine.approve(parked)
        result = await client.call_tool("holdfast__wait_task", {"task_id": parked, "timeout_s": DEADLINE_S})
        assert words(result).startswith("destroy 1 as ")
    assert await engine.downstream_pid() == downstream
    (effect,) = engine.workspace.ledger.effects()
    assert (effect.pid, effect.done) == (downstream, True)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_running_write_of_a_downstream_that_is_removed_gets_its_outcome(engine: Reloadable, mode: str) -> None:
    engine.serve_http(inline_wait="20s")
    results = []
    async with engine.over_http(mode) as client, anyio.create_task_group() as tasks:
        downstream = await engine.downstream_pid()

        async def write() -> None:
            results.append(await client.call_tool("ledger__slow", {"n": 7, "delay_ms": 2000}))

        tasks.start_soon(write)
        await engine.begun()
        engine.write(mcpServers={}, inline_wait="20s")
        assert (await engine.reload())["downstreams"]["removed"] == ["ledger"]
        assert alive(downstream)
        assert await names(client) == set()
    assert words(results[0]).startswith("slow 7 as ")
    await engine.ended(downstream)
    (effect,) = engine.workspace.ledger.effects()
    assert effect.done


async def test_a_write_that_outlasts_the_drain_of_its_removed_downstream_is_in_doubt(engine: Reloadable) -> None:
    engine.serve_http(inline_wait="1s")
    async with engine.over_http() as client:
        downstream = await engine.downstream_pid()
        running = call_id(await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 60_000}))
        engine.write(mcpServers={})
        await engine.reload()
        assert (await engine.settled(running))["status"] == "in_doubt"
    await engine.ended(downstream)
    engine.write()
    assert (await engine.reload())["downstreams"]["added"] == ["ledger"]
    assert (await engine.settled(running))["status"] == "in_doubt"


async def test_parked_calls_of_a_downstream_that_is_removed_end_and_say_why(engine: Reloadable) -> None:
    engine.serve_http()
    async with engine.over_http() as client:
        parked = call_id(await client.call_tool("ledger__destroy", {"n": 1}))
        engine.write(mcpServers={})
        await engine.reload()
        ended = await engine.settled(parked, unlike=("waiting_for_approval",))
        assert ended["status"] == "failed"
        told = await client.call_tool("holdfast__get_task", {"task_id": parked})
        assert "the downstream 'ledger' changed: it was" in words(told)
        assert "it is not configured" in words(told)
    assert (await engine.ask("list_approvals"))["approvals"] == []


async def test_parked_calls_of_a_downstream_that_became_another_end(engine: Reloadable) -> None:
    engine.serve_http()
    async with engine.over_http() as client:
        parked = call_id(await client.call_tool("ledger__destroy", {"n": 1}))
        before = await engine.downstream_pid()
        engine.write(mcpServers={"ledger": engine.workspace.ledger_downstream("--list-delay-ms", "1")})
        assert (await engine.reload())["downstreams"]["restarted"] == ["ledger"]
        assert (await engine.settled(parked, unlike=("waiting_for_approval",)))["status"] == "failed"
        await engine.ended(before)
        assert words(await client.call_tool("ledger__write", {"n": 2})).startswith("write 2 as ")
    assert await engine.downstream_pid() != before


async def test_parked_calls_outlive_the_restart_of_a_downstream_that_is_still_the_same(engine: Reloadable) -> None:
    entry = engine.workspace.ledger_downstream()
    entry["env"] = {**entry["env"], "SECRET": "old"}
    engine.serve_http(mcpServers={"ledger": entry})
    async with engine.over_http() as client:
        parked = call_id(await client.call_tool("ledger__destroy", {"n": 1}))
        before = await engine.downstream_pid()
        engine.write(mcpServers={"ledger": {**entry, "env": {**entry["env"], "SECRET": "new"}}})
        assert (await engine.reload())["downstreams"]["restarted"] == ["ledger"]
        assert await names(client) == tools_of("ledger")
        await engine.approve(parked)
        assert (await engine.settled(parked))["status"] == "done"
    after = await engine.downstream_pid()
    assert after != before
    assert [effect.pid for effect in engine.workspace.ledger.effects()] == [after]


async def test_a_new_downstreams_tools_appear_with_one_notification(engine: Reloadable) -> None:
    ledger = engine.workspace.ledger_downstream()
    engine.serve_http(mcpServers={"ledger": ledger})
    heard = Heard()
    news = []
    async with (
        engine.over_http("legacy", message_handler=heard) as session,
        engine.over_http("auto") as client,
        anyio.create_task_group() as tasks,
    ):
        assert await names(session) == tools_of("ledger")
        async with client.listen(tools_list_changed=True) as subscription:

            async def collect() -> None:
                async for event in subscription:
                    news.append(event)

            tasks.start_soon(collect)
            engine.write(mcpServers={"ledger": ledger, "second": ledger})
            assert (await engine.reload())["downstreams"]["added"] == ["second"]
            await until(lambda: bool(news) and heard.count(types.ToolListChangedNotification) > 0, "the news")
            assert await names(session) == await names(client) == tools_of("ledger", "second")
            await anyio.sleep(QUIET_S)
            assert [type(event) for event in news] == [ToolsListChanged]
            assert heard.count(types.ToolListChangedNotification) == 1

            engine.write(mcpServers={"second": ledger})
            await engine.reload()
            await until(lambda: len(news) == 2 and heard.count(types.ToolListChangedNotification) == 2, "more news")
            assert await names(session) == await names(client) == tools_of("second")
            await anyio.sleep(QUIET_S)
            assert len(news) == heard.count(types.ToolListChangedNotification) == 2
            tasks.cancel_scope.cancel()


async def test_a_policy_that_changes_no_listing_is_not_told_as_a_change_of_tools(engine: Reloadable) -> None:
    engine.serve_http()
    heard = Heard()
    async with engine.over_http("legacy", message_handler=heard) as session:
        await names(session)
        engine.write(rules=[{"id": "none", "effect": "deny", "match": {"tool": "ledger__write"}}])
        await engine.reload()
        refused = await session.call_tool("ledger__write", {"n": 1})
        assert refused.is_error
        await anyio.sleep(QUIET_S)
    assert heard.count(types.ToolListChangedNotification) == 0


async def test_calls_go_on_through_many_reloads(engine: Reloadable) -> None:
    ledger = engine.workspace.ledger_downstream()
    engine.serve_http(mcpServers={"ledger": ledger})
    finished: list[str] = []
    async with engine.over_http() as client, anyio.create_task_group() as tasks:

        async def write(first: int) -> None:
            for n in range(first, first + 20):
                finished.append(words(await client.call_tool("ledger__write", {"n": n, "delay_ms": 20})))

        for first in range(0, 80, 20):
            tasks.start_soon(write, first)
        for turn in range(10):
            servers = {"ledger": ledger, **({"other": ledger} if turn % 2 else {})}
            engine.write(mcpServers=servers, inline_wait=f"{turn + 4}s")
            await engine.reload()
    assert len(finished) == 80
    assert all(text.startswith("write ") for text in finished), finished
    assert len(engine.workspace.ledger.effects()) == 80


async def test_of_two_processes_under_one_name_the_second_starts_when_the_first_is_gone(engine: Reloadable) -> None:
    ledger = engine.workspace.ledger_downstream
    engine.serve_http(inline_wait="1s")
    async with engine.over_http() as client:
        first = await engine.downstream_pid()
        await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 2500})
        for delay in ("1", "2", "3"):
            engine.write(mcpServers={"ledger": ledger("--list-delay-ms", delay)}, inline_wait="1s")
            assert (await engine.reload())["downstreams"]["restarted"] == ["ledger"]
        (found,) = (await engine.status())["downstreams"]
        assert (found["state"], alive(first)) == ("starting", True)
        last = await engine.downstream_pid()
        assert not alive(first)
        assert last != first
    (effect,) = engine.workspace.ledger.effects()
    assert effect.done


async def test_a_downstream_that_left_comes_back_with_its_tools_at_once(engine: Reloadable) -> None:
    ledger = engine.workspace.ledger_downstream("--start-delay-ms", "1500")
    engine.serve_http(mcpServers={"ledger": ledger})
    async with engine.over_http() as client:
        assert await names(client) == tools_of("ledger")
        engine.write(mcpServers={})
        await engine.reload()
        assert await names(client) == set()
        engine.write(mcpServers={"ledger": ledger})
        await engine.reload()
        (found,) = (await engine.status())["downstreams"]
        assert found["state"] == "starting"
        assert await names(client) == tools_of("ledger")
        assert words(await client.call_tool("ledger__write", {"n": 1})).startswith("write 1 as ")


async def test_calls_of_a_downstream_that_is_not_there_any_more_are_told_so(engine: Reloadable) -> None:
    engine.serve_http()
    async with engine.over_http() as client:
        await names(client)
        engine.write(mcpServers={})
        await engine.reload()
        with pytest.raises(MCPError, match='There is no tool "ledger__write"'):
            await client.call_tool("ledger__write", {"n": 1})
    assert engine.workspace.ledger.effects() == []
