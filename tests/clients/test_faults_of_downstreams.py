"""What a downstream does wrong reaches its client as a clear error within bounds; its neighbours never notice."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from support.workspace import Workspace
from system.asking import DEADLINE_S, POLL_S, Json, Operator, kill, over_stdio, record, until, words
from tools.watching import HttpServer

from holdfast_tools import sdk

SCRIPTED = Path(__file__).resolve().parents[1] / "tools" / "servers" / "scripted.py"
FIFTY_MEGABYTES = 50_000_000
TOO_MUCH = 70_000_000
"""More than is taken from a child at once."""

ERAS = pytest.mark.parametrize(
    ("mode", "era"), [("auto", ()), ("legacy", ("--legacy",))], ids=["2026-07-28", "2025-11-25"]
)
"""The client's mode, and the option of the downstream: both of one era."""

READ_ONLY = {"annotations": {"readOnlyHint": True}}
SOON_LOST = {"timeout": "2s"}
SETTINGS: dict[str, Any] = {
    "inline_wait": "30s",
    "rules": [{"id": "all", "effect": "allow"}],
    "tools": {
        "faulty__echo": {**READ_ONLY, **SOON_LOST},
        "faulty__wait": SOON_LOST,
        "faulty__release": READ_ONLY,
        "faulty__big": READ_ONLY,
    },
}


class Place:
    """Holdfast in front of a faulty downstream and a healthy one, a client, and the operator."""

    def __init__(self, workspace: Workspace, client: Client, operator: Operator) -> None:
        self._workspace = workspace
        self._operator = operator
        self._written = 0
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool of the faulty downstream. Raises `TimeoutError`."""
        with anyio.fail_after(DEADLINE_S):
            return await self.client.call_tool(f"faulty__{tool}", arguments)

    async def neighbour_works(self) -> None:
        """A call of the healthy downstream has its effect."""
        self._written += 1
        with anyio.fail_after(DEADLINE_S):
            result = await self.client.call_tool("ledger__write", {"n": self._written})
        assert words(result).startswith(f"write {self._written} as ")
        assert len(self._workspace.ledger.effects()) == self._written

    async def connected(self) -> Json:
        """The faulty downstream's status, once it is connected. Raises `TimeoutError`."""
        with anyio.fail_after(DEADLINE_S):
            while (status := await self._operator.downstream("faulty"))["state"] != "connected":
                await anyio.sleep(POLL_S)
        return status

    async def pid(self) -> int:
        """Its process, once it is connected."""
        return int((await self.connected())["pid"])

    async def settled(self, call_id: str) -> Any:
        """What became of a call whose outcome was unknown."""
        return await self._operator.settled(call_id, unlike=("running", "in_doubt"))


@pytest.fixture
def placed(workspace, operator):
    """Start Holdfast and a client of `mode` in front of the `faulty` entry of `mcpServers`."""

    @asynccontextmanager
    async def start(mode: str, faulty: dict[str, Any]) -> AsyncIterator[Place]:
        servers = {"faulty": faulty, "ledger": workspace.ledger_downstream()}
        workspace.write_config({"mcpServers": servers, **SETTINGS})
        async with over_stdio(workspace, mode) as client:
            await client.list_tools()
            yield Place(workspace, client, operator)

    return start


@pytest.fixture
def scripted(workspace):
    """The scripted stdio server as an entry of `mcpServers`."""

    def entry(*options: str) -> dict[str, Any]:
        return {"command": sys.executable, "args": [str(SCRIPTED), str(workspace.folder / "scripted.log"), *options]}

    return entry


@ERAS
async def test_a_server_killed_between_calls_is_back_for_the_next_one(placed, scripted, mode, era):
    async with placed(mode, scripted(*era)) as place:
        first = await place.pid()
        await kill(first)
        await place.neighbour_works()
        answered = await place.call("decline")
        assert words(answered) == "no"
        assert await place.pid() != first


@ERAS
async def test_a_stopped_server_costs_its_own_callers_a_bounded_wait_and_works_when_it_goes_on(
    placed, scripted, mode, era
):
    async with placed(mode, scripted(*era)) as place:
        pid = await place.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(place.neighbour_works)
                hung = await place.call("echo")
            assert hung.is_error
            assert "within 2 s" in words(hung)
            lost = await place.call("wait")
            assert words(lost).startswith("Outcome unknown: faulty__wait was sent and its answer was lost")
            await place.neighbour_works()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert json.loads(words(await place.call("echo", n=1)))["arguments"] == {"n": 1}


@ERAS
async def test_a_write_that_is_never_answered_is_in_doubt_until_its_late_answer(placed, scripted, mode, era):
    async with placed(mode, scripted(*era)) as place:
        lost = await place.call("wait")
        assert record(lost)["status"] == "in_doubt"
        assert "An admin must look. Do not repeat the call." in words(lost)
        await place.neighbour_works()
        await place.call("release")
        assert (await place.settled(record(lost)["id"]))["status"] == "done"
        found = await place.client.call_tool("holdfast__get_task", {"task_id": record(lost)["id"]})
        assert words(found) == "released"


@ERAS
async def test_noise_on_stdout_is_skipped_and_bytes_that_are_not_utf8_are_replaced(placed, scripted, mode, era):
    async with placed(mode, scripted("--banner", *era)) as place:
        assert json.loads(words(await place.call("echo", n=1)))["arguments"] == {"n": 1}
        spoilt = {"name": "faulty__not_utf8", "arguments": {}}
        answer = await sdk.request(place.client.session, "tools/call", spoilt, timeout_s=DEADLINE_S)
        assert answer["note"] == "caf\N{REPLACEMENT CHARACTER}"
        await place.neighbour_works()


@ERAS
async def test_an_answer_that_is_garbage_loses_that_call_and_no_other(placed, scripted, mode, era):
    async with placed(mode, scripted(*era)) as place:
        pid = await place.pid()
        lost = await place.call("broken")
        assert record(lost)["status"] == "in_doubt"
        await place.neighbour_works()
        assert json.loads(words(await place.call("echo", n=1)))["arguments"] == {"n": 1}
        assert await place.pid() == pid


@ERAS
async def test_fifty_megabytes_are_their_beginning_and_a_link_and_more_than_can_be_taken_is_an_error(
    placed, scripted, mode, era
):
    async with placed(mode, scripted(*era)) as place:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place.neighbour_works)
            big = await place.call("big", bytes=FIFTY_MEGABYTES)
        assert not big.is_error
        (link,) = [block for block in big.content if block.type == "resource_link"]
        assert str(link.uri).startswith("holdfast://calls/")
        assert "xxx" in "".join(block.text for block in big.content if block.type == "text")
        refused = await place.call("big", bytes=TOO_MUCH)
        assert refused.is_error
        assert "longer than" in words(refused)
        assert json.loads(words(await place.call("echo", n=1)))["arguments"] == {"n": 1}


@ERAS
async def test_an_http_server_killed_and_started_again_is_taken_up_by_itself(placed, processes, tmp_path, mode, era):
    server = HttpServer(processes, tmp_path)
    running = server.start(*era)
    async with placed(mode, {"url": f"http://127.0.0.1:{server.port}/mcp"}) as place:
        assert json.loads(words(await place.call("echo", region="eu")))["arguments"] == {"region": "eu"}
        answers: list[Any] = []

        async def wait() -> None:
            answers.append(await place.call("wait"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: server.noted("wait") == 1, "the call")
            running.kill()
            await place.neighbour_works()
        (cut,) = answers
        assert record(cut)["status"] == "in_doubt"
        refused = await place.call("change")
        assert refused.is_error
        assert words(refused).startswith("The call failed and nothing was sent: ")
        assert "'faulty'" in words(refused)
        server.start(*era)
        await place.connected()
        assert not (await place.call("change")).is_error
    assert (server.noted("wait"), server.noted("change")) == (1, 1)
