"""Downstreams in tests: started, waited for with a deadline, and stopped with nothing left of them."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from support.processes import Processes, Running

from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools.downstream.attempt import Answered, Attempt
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.spec import DownstreamSpec, HttpSpec, StdioSpec

DEADLINE_S = 30.0
SERVERS = Path(__file__).parent / "servers"


class Watched:
    """A running downstream, and what it reported."""

    def __init__(self, spec: DownstreamSpec) -> None:
        self.records: list[CatalogRecord] = []
        self._listed = asyncio.Event()
        self.downstream = Downstream(spec, self._seen)

    def _seen(self, record: CatalogRecord) -> None:
        self.records.append(record)
        self._listed.set()

    async def listed(self, times: int) -> None:
        """Wait until the catalog was reported so many times."""
        with anyio.fail_after(DEADLINE_S):
            while len(self.records) < times:
                self._listed.clear()
                await self._listed.wait()

    def begin(self, name: str, *, read_only: bool = True, meta: Json | None = None, **arguments: Any) -> Dispatch:
        return self.downstream.dispatch(name, arguments, meta=meta or {}, read_only=read_only)

    async def call(self, name: str, *, read_only: bool = True, meta: Json | None = None, **arguments: Any) -> Attempt:
        return await outcome(self.begin(name, read_only=read_only, meta=meta, **arguments))


async def outcome(dispatch: Dispatch) -> Attempt:
    """What became of `dispatch`, within the deadline."""
    done, _ = await asyncio.wait((dispatch.outcome,), timeout=DEADLINE_S)
    assert done, "the outcome of a dispatch always resolves"
    return dispatch.outcome.result()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Poll what happens in another process, within the deadline."""
    with anyio.move_on_after(DEADLINE_S):
        while not condition():
            await anyio.sleep(0.01)
        return
    raise TimeoutError(f"{what}: not within {DEADLINE_S} s")


def text_of(attempt: Attempt) -> str:
    """The text of a result."""
    assert isinstance(attempt, Answered), attempt
    assert attempt.result is not None, attempt
    return str(attempt.result["content"][0]["text"])


@asynccontextmanager
async def running(spec: DownstreamSpec) -> AsyncIterator[Watched]:
    """A downstream that is supervised while the block runs."""
    watched = Watched(spec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.downstream.run)
        assert await watched.downstream.settled(DEADLINE_S)
        yield watched
        tasks.cancel_scope.cancel()


class ScriptedServer:
    """The scripted stdio server, and what it received."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "scripted.log"

    def spec(self, *options: str, name: str = "scripted", **env: str) -> DownstreamSpec:
        command = StdioSpec(sys.executable, (str(SERVERS / "scripted.py"), str(self.log), *options), env)
        return DownstreamSpec(name, command, connect_timeout_s=DEADLINE_S)

    def running(self, *options: str, **env: str) -> AbstractAsyncContextManager[Watched]:
        return running(self.spec(*options, **env))

    def cancelled(self) -> list[object]:
        """The ids of the tool calls that it was told to stop."""
        calls = {call["id"] for call in self.received("tools/call")}
        named = [cancel["params"]["requestId"] for cancel in self.received("notifications/cancelled")]
        return [request for request in named if request in calls]

    def received(self, method: str) -> list[Json]:
        """The messages of `method` that it received, in order."""
        if not self.log.exists():
            return []
        messages = [json.loads(line) for line in self.log.read_bytes().splitlines()]
        return [message for message in messages if message.get("method") == method]


def http_spec(port: int, **headers: str) -> DownstreamSpec:
    return DownstreamSpec("remote", HttpSpec(f"http://127.0.0.1:{port}/mcp", headers), connect_timeout_s=DEADLINE_S)


class HttpServer:
    """The HTTP server of the tests, on one port through all its lives."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self.log = folder / "http.log"
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]

    def start(self, *options: str) -> Running:
        command = [sys.executable, SERVERS / "over_http.py", str(self.port), self.log, *options]
        server = self._processes.start(command)
        server.wait_for("listening", DEADLINE_S)
        return server

    def noted(self, line: str) -> int:
        """How often the server noted `line`."""
        return self.log.read_text().splitlines().count(line) if self.log.exists() else 0
