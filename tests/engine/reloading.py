"""An engine whose config tests change while it runs, and clients of every way to it."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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

START_S = 30.0
DEADLINE_S = 30.0
POLL_S = 0.02
QUIET_S = 0.5
"""How long nothing more must come, for once to be once."""

CALL = "dev.holdfast/call"

Json = dict[str, Any]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds. Raises `TimeoutError` naming `what`."""
    with anyio.move_on_after(DEADLINE_S) as waited:
        while not condition():
            await anyio.sleep(POLL_S)
    if waited.cancelled_caught:
        raise TimeoutError(f"{what}: not within {DEADLINE_S} s")


def call_id(result: Any) -> str:
    """The call behind a result."""
    return str(result.meta[CALL]["id"])


def words(result: Any) -> str:
    """What a model reads of a result."""
    return "\n".join(block.text for block in result.content)


async def names(client: Client) -> set[str]:
    """The tools that a client sees, Holdfast's own aside."""
    return {tool.name for tool in (await client.list_tools()).tools if not tool.name.startswith("holdfast__")}


class Heard:
    """What a client was told, in order."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.messages)


class Reloadable:
    """One workspace's engine, in the foreground or behind shims, and its operator."""

    def __init__(self, workspace: Workspace, processes: Processes) -> None:
        self.workspace = workspace
        self._processes = processes
        self.running: Running | None = None
        self.url = ""

    def write(self, **settings: Any) -> Path:
        """Write the config: one ledger downstream, where `mcpServers` says nothing else."""
        return self.workspace.write_config({"mcpServers": {"ledger": self.workspace.ledger_downstream()}, **settings})

    def serve_http(self, **settings: Any) -> None:
        """Start `serve --http` by these settings."""
        command = [HOLDFAST, "serve", self.write(**settings), "--http", "127.0.0.1:0"]
        self.running = self._processes.start(command, environment=self.workspace.environment)
        self.url = self.running.wait_for(r"url=(http://\S+)/mcp", START_S).group(1)

    @asynccontextmanager
    async def over_http(self, mode: str = "auto", *, token: str | None = None, **options: Any) -> AsyncIterator[Client]:
        """A client of `serve --http`; with `token`, as whoever that is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
            transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
            async with Client(transport, mode=mode, cache=None, **options) as client:
                yield client

    def over_stdio(self, mode: str = "auto", *arguments: str, **options: Any) -> Client:
        """A client with a shim of its own, in front of the engine in the background."""
        return Client(
            self.workspace.server(*arguments), mode=mode, cache=None, read_timeout_seconds=DEADLINE_S, **options
        )

    async def ask(self, tool: str, **arguments: Any) -> Json:
        """The answer of an admin tool; the engine is started where none lives."""
        return await anyio.to_thread.run_sync(partial(self._ask, tool, arguments))

    def _ask(self, tool: str, arguments: Json) -> Json:
        with connect(self.workspace.config, environ=self.workspace.environment) as client:
            return client.call_tool(tool, arguments)

    async def reload(self) -> Json:
        """Reload, and answer what changed."""
        return await self.ask("engine_reload")

    async def status(self) -> Json:
        return await self.ask("engine_status")

    async def pid(self) -> int:
        """The engine's process."""
        return int((await self.status())["engine"]["pid"])

    async def hang_up(self) -> None:
        """Send the engine a SIGHUP."""
        os.kill(await self.pid(), signal.SIGHUP)

    async def downstream_pid(self, name: str = "ledger") -> int:
        """The process of a downstream that is connected."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                for found in (await self.status())["downstreams"]:
                    if found["name"] == name and found["pid"] is not None:
                        return int(found["pid"])
                await anyio.sleep(POLL_S)

    async def settled(self, call: str, *, unlike: tuple[str, ...] = ("queued", "running")) -> Json:
        """The call, once its status is none of `unlike`."""
        with anyio.fail_after(DEADLINE_S):
            while (found := (await self.ask("get_call", call_id=call))["call"])["status"] in unlike:
                await anyio.sleep(POLL_S)
        return dict(found)

    async def approve(self, call: str) -> None:
        """Approve what is parked as `call`."""
        approvals = (await self.ask("list_approvals"))["approvals"]
        (approval,) = [approval for approval in approvals if approval["call_id"] == call]
        await self.ask("approve", approval_id=approval["id"])

    async def ended(self, pid: int) -> None:
        """Wait until a process is gone."""
        await until(lambda: not alive(pid), f"the end of process {pid}")

    async def begun(self, effects: int = 1) -> None:
        """Wait until so many effects have begun."""
        await until(lambda: len(self.workspace.ledger.effects()) >= effects, f"the beginning of {effects} effects")
