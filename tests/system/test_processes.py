"""No process outlives what started it, however Holdfast ends; and it ends in order, or at once, as it is told."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from asking import (
    DEADLINE_S,
    engine_pid,
    engines,
    gone,
    kill,
    ledger_servers,
    over_http,
    over_stdio,
    record,
    serve_http,
    until,
)
from mcp.shared.exceptions import MCPError
from support.processes import alive
from support.workspace import Workspace

from holdfast_tools.downstream import reaper

WITH_A_GRANDCHILD = 'sleep 6000 & echo $! >>"$0"; exec "$@"'
DEAF = """trap "" TERM; echo $$ >>"$0"; "$@"; sleep 6000 & echo $! >>"$0"; while :; do wait; done"""


def behind_a_shell(workspace: Workspace, script: str) -> dict[str, Any]:
    """The ledger downstream, started by a shell that notes its other processes."""
    ledger = workspace.ledger_downstream()
    args = ["-c", script, str(noted(workspace)), ledger["command"], *ledger["args"]]
    return {"mcpServers": {"ledger": {**ledger, "command": "sh", "args": args}}}


def noted(workspace: Workspace) -> Path:
    return workspace.folder / "noted"


def grandchildren(workspace: Workspace) -> list[int]:
    """Those that the shells of this workspace have noted, dead ones too."""
    return [int(line) for line in noted(workspace).read_text().split()]


def reapers(workspace: Workspace) -> list[int]:
    """The reapers of this workspace's engines that are alive."""
    return [pid for pid in workspace.processes() if str(reaper.PROGRAM) in _command(pid)]


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def left(workspace: Workspace) -> list[int]:
    """What is alive of the engine, its downstreams, their children, and its reaper."""
    others = [pid for pid in grandchildren(workspace) if alive(pid)]
    return [*engines(workspace), *ledger_servers(workspace), *reapers(workspace), *others]


@pytest.mark.parametrize("script", [WITH_A_GRANDCHILD, DEAF], ids=["with a grandchild", "deaf to SIGTERM"])
async def test_a_killed_engine_leaves_no_process_behind(workspace, script):
    workspace.write_config(behind_a_shell(workspace, script))
    async with over_stdio(workspace) as client:
        await client.call_tool("ledger__write", {"n": 1})
        assert grandchildren(workspace)
        assert ledger_servers(workspace)
        assert len(reapers(workspace)) == 1
        engine = engine_pid(workspace)
    await kill(engine)
    await until(lambda: not left(workspace), "the end of everything that the engine had started")


async def test_an_engine_that_stops_in_order_leaves_no_process_behind(workspace, processes):
    workspace.write_config(behind_a_shell(workspace, WITH_A_GRANDCHILD))
    running, url = serve_http(processes, workspace)
    async with over_http(url) as client:
        await client.call_tool("ledger__write", {"n": 1})
    running._popen.send_signal(signal.SIGTERM)
    assert running.wait(DEADLINE_S) == 0
    assert [pid for pid in grandchildren(workspace) if alive(pid)] == ledger_servers(workspace) == []
    await until(lambda: not left(workspace), "the end of the reaper")


async def test_a_write_under_way_is_waited_for_when_the_engine_is_asked_to_stop(workspace, processes):
    workspace.write_config()
    running, url = serve_http(processes, workspace)
    async with over_http(url) as client, anyio.create_task_group() as tasks:
        told: list[dict[str, Any]] = []
        await client.list_tools()  # or the client does, behind the answer

        async def write() -> None:
            told.append(record(await client.call_tool("ledger__write", {"n": 1, "delay_ms": 1500})))

        tasks.start_soon(write)
        await until(lambda: len(workspace.ledger.effects()) == 1, "the effect")
        running._popen.send_signal(signal.SIGTERM)
    assert told[0]["status"] == "done"
    assert running.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_second_signal_ends_the_engine_at_once_and_its_children_with_it(workspace, processes, number):
    workspace.write_config(behind_a_shell(workspace, WITH_A_GRANDCHILD))
    running, url = serve_http(processes, workspace)
    (socket,) = workspace.state_home.glob("holdfast/*/engine.sock")
    async with anyio.create_task_group() as tasks:

        async def cut_off() -> None:
            with pytest.raises((MCPError, BaseExceptionGroup)):
                async with over_http(url) as client:
                    await client.call_tool("ledger__write", {"n": 1, "delay_ms": 60_000})

        tasks.start_soon(cut_off)
        await until(lambda: len(workspace.ledger.effects()) == 1, "the effect")
        running._popen.send_signal(number)
        await until(lambda: not socket.is_symlink() and not socket.exists(), "the drain")
        assert not running.exited()
        running._popen.send_signal(number)
        with anyio.fail_after(5):
            assert await anyio.to_thread.run_sync(running.wait, DEADLINE_S) == -number
    await until(lambda: not left(workspace), "the end of everything that the engine had started")


async def test_what_could_not_be_settled_is_in_doubt_before_the_engine_is_gone(workspace, operator):
    workspace.write_config()
    async with over_stdio(workspace) as client, anyio.create_task_group() as tasks:

        async def cut_off() -> None:
            with pytest.raises(MCPError):
                await client.call_tool("ledger__write", {"n": 1, "delay_ms": 60_000})

        tasks.start_soon(cut_off)
        await until(lambda: len(workspace.ledger.effects()) == 1, "the effect")
        await operator.stop()
    listed = workspace.run("calls", "list", str(workspace.config), "--json")
    assert '"in_doubt"' in listed.stdout, listed
    assert engines(workspace) == []


async def test_a_reaper_that_is_killed_has_a_successor_by_the_next_start_of_a_child(workspace):
    workspace.write_config(behind_a_shell(workspace, WITH_A_GRANDCHILD))
    async with over_stdio(workspace) as client:
        await client.call_tool("ledger__write", {"n": 1})
        (first,) = reapers(workspace)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not alive(first), "the end of the reaper")
        (server,) = ledger_servers(workspace)
        os.kill(server, signal.SIGKILL)
        await until(lambda: len(grandchildren(workspace)) == 2 and len(reapers(workspace)) == 1, "the successors")
        await until(lambda: not alive(grandchildren(workspace)[0]), "the end of the first grandchild")
        engine = engine_pid(workspace)
    await kill(engine)
    await until(lambda: not left(workspace), "the end of everything that the engine had started")


async def test_children_that_have_died_are_reaped(workspace):
    workspace.write_config()
    async with over_stdio(workspace) as client:
        for n in range(3):
            await client.call_tool("ledger__write", {"n": n})
            (server,) = ledger_servers(workspace)
            os.kill(server, signal.SIGKILL)
            await until(lambda server=server: gone(server), "the end of the downstream")
        zombies = subprocess.run(
            ["ps", "--ppid", str(engine_pid(workspace)), "-o", "stat="], capture_output=True, text=True, check=False
        )
    assert "Z" not in zombies.stdout
