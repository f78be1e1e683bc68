"""How the tests of whole processes ask: clients over each transport, the operator, and what is running."""

import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from support.processes import Processes, Running, alive
from support.workspace import HOLDFAST, Workspace

from holdfast_server.engine.client import connect

CALL = "dev.holdfast/call"
KEY = "dev.holdfast/idempotencyKey"
RESTARTED = "the engine restarted; the call is kept: see holdfast__list_tasks"

START_S = 30.0
DEADLINE_S = 30.0
POLL_S = 0.01

Json = dict[str, Any]


def words(result: Any) -> str:
    """What a model reads of a result."""
    return "\n".join(block.text for block in result.content)


def record(result: Any) -> Json:
    """What Holdfast says of the call behind a result."""
    found: Json = result.meta[CALL]
    return found


async def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until `condition` holds, while the rest of the test goes on. Raises `TimeoutError` naming `what`."""
    with anyio.move_on_after(timeout_s) as waited:
        while not condition():
            await anyio.sleep(POLL_S)
    if waited.cancelled_caught:
        raise TimeoutError(f"{what}: not within {timeout_s} s")


@contextmanager
def fresh_workspace() -> Iterator[Workspace]:
    """A workspace for more than one test; everything that came to life in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        place = Workspace(Path(folder))
        try:
            yield place
        finally:
            place.end_all()


def serve_http(processes: Processes, workspace: Workspace, *options: str) -> tuple[Running, str]:
    """Start `serve --http` on a free port of loopback; the process and its `/mcp`."""
    command = [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0", *options]
    running = processes.start(command, environment=workspace.environment)
    return running, running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)


@asynccontextmanager
async def over_http(
    url: str, mode: str = "auto", *, token: str | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client of one era over HTTP; with `token`, as whoever that is."""
    sent = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    async with (
        httpx2.AsyncClient(headers=sent, timeout=DEADLINE_S) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as client,
    ):
        yield client


def over_stdio(workspace: Workspace, mode: str = "auto", *options: str, timeout_s: float = DEADLINE_S) -> Client:
    """A client of one era that spawns its own `holdfast serve`."""
    return Client(workspace.server(*options), mode=mode, cache=None, read_timeout_seconds=timeout_s)


class Operator:
    """Who holds the engine's own token: asks the engine as the command line does, and starts it where none lives."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def ask(self, tool: str, **arguments: Any) -> Json:
        """The structured content of an admin tool's answer."""
        return await anyio.to_thread.run_sync(partial(self._ask, tool, arguments))

    def _ask(self, tool: str, arguments: Json) -> Json:
        with connect(self._workspace.config, environ=self._workspace.environment) as client:
            return client.call_tool(tool, arguments)

    async def downstream(self, name: str) -> Json:
        """How one downstream is."""
        status = await self.ask("engine_status")
        (found,) = [downstream for downstream in status["downstreams"] if downstream["name"] == name]
        return found

    async def call(self, call_id: str) -> Json:
        """One call."""
        found: Json = (await self.ask("get_call", call_id=call_id))["call"]
        return found

    async def settled(self, call_id: str, *, unlike: tuple[str, ...] = ("queued", "running")) -> Json:
        """The call, once its status is none of `unlike`."""
        with anyio.fail_after(DEADLINE_S):
            while (call := await self.call(call_id))["status"] in unlike:
                await anyio.sleep(POLL_S)
        return call

    async def stop(self) -> None:
        """Stop the engine at once, and wait until it is gone."""
        pid = engine_pid(self._workspace)
        await self.ask("engine_stop", drain_s=0)
        await until(lambda: gone(pid), f"the end of engine {pid}")

    async def approve(self, call_id: str) -> None:
        """Approve what is parked as `call_id`."""
        approvals = (await self.ask("list_approvals"))["approvals"]
        (approval,) = [approval for approval in approvals if approval["call_id"] == call_id]
        await self.ask("approve", approval_id=approval["id"])


def engine_pid(workspace: Workspace) -> int:
    """The process that says in the lock that it is the engine."""
    (path,) = workspace.state_home.glob("holdfast/*/engine.lock")
    return int(json.loads(path.read_text())["pid"])


def engines(workspace: Workspace) -> list[int]:
    """Every detached engine of this workspace that is alive."""
    return [pid for pid in workspace.processes() if "holdfast_server.engine" in command_of(pid).split("\0")]


def shims(workspace: Workspace) -> list[int]:
    """Every `serve` of this workspace that is alive."""
    return [pid for pid in workspace.processes() if "serve" in command_of(pid).split("\0")]


def ledger_servers(workspace: Workspace) -> list[int]:
    """Every ledger downstream of this workspace that is alive."""
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in pids if str(workspace.ledger.path) in command_of(pid).split("\0") and alive(pid)]


def command_of(pid: int) -> str:
    """The command line of `pid`, its parts separated by NUL; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Whether nothing of `pid` is left. A zombie's other threads may still hold its sockets open for a moment."""
    try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return True
    return threads == 1 and not alive(pid)


async def kill(pid: int) -> None:
    """SIGKILL `pid`, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    await until(lambda: gone(pid), f"the end of process {pid}")


def resident_bytes(pid: int) -> int:
    """The resident memory of `pid`, by /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"process {pid} has no resident memory")
    return int(found.group(1)) * 1024
