"""An engine is killed while a downstream of 2025-11-25 works on a task: the next one finds that task again."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from support.processes import Processes, Running, wait_until
from support.workspace import HOLDFAST, Workspace

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0
DEADLINE_S = 30.0
JOB_MS = 4000

Serve = Callable[[], tuple[Running, str]]


@pytest.fixture
def serve(workspace: Workspace, processes: Processes) -> Serve:
    """Start Holdfast over HTTP, in front of a downstream over HTTP that outlives it."""
    command = [sys.executable, "-m", "support.core_task_server", str(workspace.ledger.path), "--http", "0"]
    downstream = processes.start(command, environment={**os.environ, "PYTHONPATH": str(TESTS)})
    url = downstream.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)
    workspace.write_config({"mcpServers": {"old": {"url": url}}, "inline_wait": "500ms"})

    def start() -> tuple[Running, str]:
        command = [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0"]
        running = processes.start(command, environment=workspace.environment)
        return running, running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)

    return start


async def call(url: str, era: str, tool: str, arguments: dict[str, object]) -> tuple[str, str]:
    """The text of the result, and the id of the call."""
    async with (
        httpx2.AsyncClient(timeout=DEADLINE_S) as http,
        Client(streamable_http_client(url, http_client=http), mode=era, cache=None) as client,
    ):
        result = await client.call_tool(tool, arguments)
        return result.content[0].text, result.meta["dev.holdfast/call"]["id"]


async def test_the_next_engine_watches_the_same_task_and_calls_nothing_again(workspace, serve, era):
    engine, url = serve()
    _, task_id = await call(url, era, "old__job", {"n": 7, "delay_ms": JOB_MS})
    wait_until(lambda: len(workspace.ledger.effects("job")) == 1, DEADLINE_S, "the job's beginning")
    engine.kill()
    _, url = serve()
    with anyio.fail_after(DEADLINE_S):
        answer, _ = await call(url, era, "holdfast__wait_task", {"task_id": task_id, "timeout_s": 20})
    assert answer == "job 7"
    (effect,) = workspace.ledger.effects("job")
    assert effect.done
