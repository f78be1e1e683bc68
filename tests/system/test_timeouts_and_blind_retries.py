"""Clients whose patience ends before the call does, and that ask again as if nothing had happened: one effect."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import httpx2
import pytest
from asking import over_http, over_stdio, record, serve_http, until, words
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import REQUEST_TIMEOUT, CallToolResult
from plain_client import INITIALIZE, plain_client

PATIENCE_S = 1.0
EFFECT_MS = 1500
"""Ends in the middle of the second try: an answer that is written as patience ends counts as delivered."""

TRIES = 10

Answer = TypeVar("Answer")

SLOW = ("ledger__write", {"n": 1, "delay_ms": EFFECT_MS})


def one_effect(workspace) -> str:
    """The id of the ledger's only effect."""
    (effect,) = workspace.ledger.effects()
    assert effect.done
    return effect.id


async def slow_call(client: Client) -> CallToolResult:
    """Raises `TimeoutError` when patience is at its end."""
    try:
        return await client.call_tool(*SLOW, read_timeout_seconds=PATIENCE_S)
    except MCPError as error:
        if error.error.code != REQUEST_TIMEOUT:
            raise
        raise TimeoutError from error


async def repeated(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until there is an answer; it takes more than one try."""
    with pytest.raises(TimeoutError):
        await ask()
    for _ in range(TRIES):
        with suppress(TimeoutError):
            return await ask()
    raise TimeoutError(f"no answer to {TRIES} tries")


async def test_a_client_that_times_out_and_repeats_has_one_effect_and_its_result(workspace, era):
    workspace.write_config()
    async with over_stdio(workspace, era) as client:
        await client.list_tools()
        result = await repeated(partial(slow_call, client))
    assert words(result).startswith(f"write 1 as {one_effect(workspace)}")
    assert record(result)["joined"]


async def test_a_client_that_times_out_finds_its_result_among_its_tasks(workspace):
    workspace.write_config()
    async with over_stdio(workspace) as client:
        await client.list_tools()
        with pytest.raises(MCPError):
            await client.call_tool(*SLOW, read_timeout_seconds=PATIENCE_S)
        (task,) = (await client.call_tool("holdfast__list_tasks", {})).structured_content["tasks"]
        assert task["status"] == "running"
        result = await client.call_tool("holdfast__wait_task", {"task_id": task["task_id"], "timeout_s": 20})
    assert words(result).startswith(f"write 1 as {one_effect(workspace)}")


@pytest.mark.parametrize("effect_ms", [1250, 2250])
async def test_a_framework_that_spawns_a_server_for_each_try_and_cancels_nothing_has_one_effect(workspace, effect_ms):
    """With the shorter effect the outcome comes while the first try's server is still being closed."""
    workspace.write_config()

    async def ask() -> dict[str, Any]:
        async with plain_client(workspace) as client:
            return await client.call_tool("ledger__write", {"n": 1, "delay_ms": effect_ms}, PATIENCE_S)

    async with over_stdio(workspace) as warm:
        await warm.list_tools()
        result = await repeated(ask)
    assert result["content"][0]["text"].startswith(f"write 1 as {one_effect(workspace)}")


async def test_an_http_client_that_times_out_and_repeats_has_one_effect_and_its_result(workspace, processes, era):
    workspace.write_config()
    _, url = serve_http(processes, workspace)
    async with over_http(url, era) as client:
        await client.list_tools()
        result = await repeated(partial(slow_call, client))
    assert words(result).startswith(f"write 1 as {one_effect(workspace)}")
    assert record(result)["joined"]


async def test_an_http_client_that_hangs_up_and_cancels_nothing_has_one_effect(workspace, processes):
    workspace.write_config()
    _, url = serve_http(processes, workspace)
    request = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": SLOW[0], "arguments": SLOW[1]}}
    accepted = {"Accept": "application/json, text/event-stream"}
    async with over_http(url, "legacy") as warm, httpx2.AsyncClient(headers=accepted, timeout=30) as http:
        await warm.list_tools()
        opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        session = {"Mcp-Session-Id": (await http.post(url, json=opening)).headers["Mcp-Session-Id"]}
        await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
        with pytest.raises(httpx2.TimeoutException):
            await http.post(url, json=request, headers=session, timeout=PATIENCE_S)
        (effect,) = workspace.ledger.effects()
    await until(lambda: workspace.ledger.effects()[0].done, "the end of the effect")
    async with over_http(url, "legacy") as client:
        result = await client.call_tool(*SLOW)
    assert words(result).startswith(f"write 1 as {effect.id}")
    assert one_effect(workspace) == effect.id
    assert record(result)["joined"]
