"""What is watched at a downstream, tasks and resources, is watched on at the one that takes its place."""

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated
from reloading import DEADLINE_S, START_S, Reloadable, call_id, until, words
from support.processes import Processes
from support.workspace import Workspace

TESTS = Path(__file__).resolve().parents[1]
ALLOW: dict[str, Any] = {"rules": [{"id": "all", "effect": "allow"}], "inline_wait": "1s"}


@pytest.fixture
def engine(workspace: Workspace, processes: Processes) -> Reloadable:
    return Reloadable(workspace, processes)


@pytest.fixture
def tasks_url(workspace: Workspace, processes: Processes) -> str:
    """A downstream that makes tasks of its calls, in a process of its own."""
    command = [sys.executable, "-m", "support.core_task_server", str(workspace.ledger.path), "--http", "0"]
    running = processes.start(command, environment={**os.environ, "PYTHONPATH": str(TESTS)})
    return running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)


async def test_a_task_is_watched_on_where_its_downstream_is_still_the_same(engine: Reloadable, tasks_url: str) -> None:
    engine.serve_http(mcpServers={"old": {"url": tasks_url}}, **ALLOW)
    async with engine.over_http() as client:
        running = call_id(await client.call_tool("old__job", {"n": 1, "delay_ms": 4000}))
        engine.write(mcpServers={"old": {"url": tasks_url, "headers": {"X-Key": "new"}}}, **ALLOW)
        assert (await engine.reload())["downstreams"]["restarted"] == ["old"]
        assert (await engine.settled(running))["status"] == "done"
        result = await client.call_tool("holdfast__get_task", {"task_id": running})
        assert words(result) == "job 1"
    assert len(engine.workspace.ledger.effects()) == 1


async def test_a_task_of_a_downstream_that_is_removed_gets_its_outcome(engine: Reloadable, tasks_url: str) -> None:
    engine.serve_http(mcpServers={"old": {"url": tasks_url}}, **ALLOW)
    async with engine.over_http() as client:
        running = call_id(await client.call_tool("old__job", {"n": 1, "delay_ms": 3000}))
        engine.write(mcpServers={}, **ALLOW)
        assert (await engine.reload())["downstreams"]["removed"] == ["old"]
        assert (await engine.settled(running))["status"] == "done"
        assert words(await client.call_tool("holdfast__get_task", {"task_id": running})) == "job 1"


async def test_a_task_that_outlasts_the_drain_of_its_removed_downstream_is_in_doubt(
    engine: Reloadable, tasks_url: str
) -> None:
    engine.serve_http(mcpServers={"old": {"url": tasks_url}}, **ALLOW)
    async with engine.over_http() as client:
        running = call_id(await client.call_tool("old__job", {"n": 1, "delay_ms": 120_000}))
        engine.write(mcpServers={}, **ALLOW)
        await engine.reload()
        ended = await engine.settled(running)
        assert ended["status"] == "in_doubt"
        timeline = (await engine.ask("get_call", call_id=running))["timeline"]
        assert "the downstream 'old' changed" in str(timeline)


def offering(workspace: Workspace, secret: str) -> dict[str, Any]:
    """A downstream with prompts and resources."""
    server = TESTS / "mcp" / "servers" / "offering.py"
    log = workspace.folder / "offering.log"
    return {
        "command": sys.executable,
        "args": [str(server), str(log), "--name", "offering"],
        "env": {"SECRET": secret, "PYTHONPATH": str(TESTS)},
    }


async def test_a_resource_is_watched_on_when_its_downstream_restarts(engine: Reloadable) -> None:
    engine.serve_http(mcpServers={"offering": offering(engine.workspace, "old")}, **ALLOW)
    news: list[Any] = []
    async with engine.over_http() as client, anyio.create_task_group() as tasks:
        uri = str((await client.list_resources()).resources[0].uri)
        async with client.listen(resource_subscriptions=[uri]) as subscription:

            async def collect() -> None:
                async for event in subscription:
                    news.append(event)

            tasks.start_soon(collect)
            before = await engine.downstream_pid("offering")
            engine.write(mcpServers={"offering": offering(engine.workspace, "new")}, **ALLOW)
            assert (await engine.reload())["downstreams"]["restarted"] == ["offering"]
            await engine.ended(before)
            with anyio.fail_after(DEADLINE_S):
                while not any(isinstance(event, ResourceUpdated) for event in news):
                    await client.call_tool("offering__touch", {"uri": uri})
                    await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()


async def test_prompts_and_resources_of_a_removed_downstream_vanish_and_that_is_told_once(engine: Reloadable) -> None:
    ledger = engine.workspace.ledger_downstream()
    servers = {"ledger": ledger, "offering": offering(engine.workspace, "old")}
    engine.serve_http(mcpServers=servers, **ALLOW)
    news: list[Any] = []
    async with engine.over_http() as client, anyio.create_task_group() as tasks:
        assert (await client.list_prompts()).prompts
        async with client.listen(prompts_list_changed=True, resources_list_changed=True) as subscription:

            async def collect() -> None:
                async for event in subscription:
                    news.append(event)

            tasks.start_soon(collect)
            engine.write(mcpServers={"ledger": ledger}, **ALLOW)
            await engine.reload()
            await until(lambda: len(news) == 2, "the news")
            tasks.cancel_scope.cancel()
    assert {type(event) for event in news} == {PromptsListChanged, ResourcesListChanged}
