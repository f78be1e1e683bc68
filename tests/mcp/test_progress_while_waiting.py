"""A client that waits is told what for, as progress of its own request: both eras, over HTTP and on stdio."""

import re
from contextlib import asynccontextmanager

import pytest
from mcp import Client
from mcp.client.stdio import stdio_client

CALL = "dev.holdfast/call"
LONG = {"inline_wait": "20s"}


@pytest.fixture(params=("over HTTP", "on stdio"))
def connected(request, started, workspace):
    """Connect a client of an era to Holdfast with these settings, in one of the ways there are."""

    @asynccontextmanager
    async def connect(era, **settings):
        if request.param == "over HTTP":
            async with started(**settings).client(era) as client:
                yield client
            return
        workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, **settings})
        async with Client(stdio_client(workspace.server()), mode=era, cache=None) as client:
            yield client

    return connect


class Steps:
    """The progress that one request was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float | None, str | None]] = []

    async def __call__(self, progress, total, message):
        self.told.append((progress, total, message))


async def test_who_waits_for_a_long_call_is_told_that_it_runs_and_since_when(connected, era):
    steps = Steps()
    async with connected(era, **LONG) as client:
        result = await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 1500}, progress_callback=steps)
    assert result.content[0].text.startswith("slow 1")
    (progress, total, message), *_ = steps.told
    assert (progress > 0, total) == (True, None)
    assert re.match(r"Running since 20\S+Z\.", message)


async def test_who_asked_for_no_progress_is_told_nothing(connected, era):
    async with connected(era, **LONG) as client:
        result = await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 1200})
    assert result.content[0].text.startswith("slow 1")


async def test_who_waits_for_a_task_is_told_what_for_and_since_when(connected, era):
    steps = Steps()
    async with connected(era) as client:
        parked = await client.call_tool("ledger__destroy", {"n": 1})
        waiting = {"task_id": parked.meta[CALL]["id"], "timeout_s": 0.5}
        await client.call_tool("holdfast__wait_task", waiting, progress_callback=steps)
    (progress, total, message), *_ = steps.told
    assert 0 <= progress <= total == 0.5
    assert re.match(r"Waiting since 20\S+Z for the approval", message)
