"""Requests about tasks, as a client of each dialect writes them; raw, so that every field on the wire is seen."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.shared.exceptions import MCPError
from support.workspace import Workspace

from holdfast_tools import sdk

TASKS = "io.modelcontextprotocol/tasks"
VERSION = "2026-07-28"
DEADLINE_S = 20.0

Json = dict[str, Any]

ENDED = ("completed", "failed", "cancelled")


def envelope(*, tasks: bool = True, elicitation: bool = False, meta: Json | None = None) -> Json:
    """What a request of 2026-07-28 says of itself in `_meta`."""
    capabilities = {
        **({"extensions": {TASKS: {}}} if tasks else {}),
        **({"elicitation": {}} if elicitation else {}),
    }
    return {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        **(meta or {}),
    }


class Refused(Exception):
    """A JSON-RPC error, with the status that carried it."""

    def __init__(self, status: int | None, error: Json) -> None:
        super().__init__(f"{error['code']} {error['message']}")
        self.status = status
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


class ModernPosts:
    """One client of 2026-07-28 over HTTP; every request is a POST of its own."""

    def __init__(self, http: httpx2.AsyncClient, url: str, *, elicitation: bool) -> None:
        self._http = http
        self._url = url
        self._elicitation = elicitation
        self._ids = itertools.count(1)

    async def request(self, method: str, params: Json, *, tasks: bool = True, name: str | None = None) -> Json:
        """The result on the wire. Raises `Refused`."""
        shown = name if name is not None else params.get("taskId", params.get("name"))
        body, headers = self._body(method, params, tasks=tasks), _headers(method, shown)
        answer = await self._http.post(self._url, json=body, headers=headers)
        message = _message(answer)
        if "error" in message:
            raise Refused(answer.status_code, message["error"])
        result: Json = message["result"]
        return result

    @asynccontextmanager
    async def listening(self, *task_ids: str) -> AsyncIterator[AsyncIterator[Json]]:
        """A stream of what happens to these tasks: its messages, from the acknowledgement on."""
        method = "subscriptions/listen"
        body = self._body(method, {"notifications": {"taskIds": list(task_ids)}}, tasks=True)
        async with self._http.stream("POST", self._url, json=body, headers=_headers(method)) as answer:
            yield (json.loads(line.removeprefix("data:")) async for line in answer.aiter_lines() if _is_data(line))

    def _body(self, method: str, params: Json, *, tasks: bool) -> Json:
        carried = envelope(tasks=tasks, elicitation=self._elicitation, meta=params.get("_meta"))
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": {**params, "_meta": carried}}

    async def call(self, tool: str, arguments: Json, **options: Any) -> Json:
        return await self.request("tools/call", {"name": tool, "arguments": arguments}, **options)

    async def get(self, task_id: str) -> Json:
        return await self.request("tasks/get", {"taskId": task_id})

    async def ended(self, task_id: str) -> Json:
        """The task once it has ended. Raises `TimeoutError`."""
        return await self.until(task_id, *ENDED)

    async def until(self, task_id: str, *statuses: str) -> Json:
        """The task once it has one of `statuses`. Raises `TimeoutError`."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                task = await self.get(task_id)
                if task["status"] in statuses:
                    return task
                await asyncio.sleep(0.05)


def _headers(method: str, name: str | None = None) -> dict[str, str]:
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    return headers if name is None else {**headers, "Mcp-Name": name}


def _is_data(line: str) -> bool:
    """Whether a line of an event stream carries a message: some only keep the stream open."""
    return line.startswith("data:") and line.removeprefix("data:").strip() != ""


def _message(answer: httpx2.Response) -> Json:
    """The last message of an answer, be it JSON or a stream of events."""
    if answer.headers["content-type"].startswith("application/json"):
        message: Json = answer.json()
        return message
    lines = [line.removeprefix("data:") for line in answer.text.splitlines() if _is_data(line)]
    last: Json = json.loads(lines[-1])
    return last


@asynccontextmanager
async def modern_posts(url: str, token: str | None = None, *, elicitation: bool = False) -> AsyncIterator[ModernPosts]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
        yield ModernPosts(http, url, elicitation=elicitation)


class ModernLines:
    """The same over a `holdfast serve` on stdio, one message a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)

    async def request(self, method: str, params: Json, *, tasks: bool = True) -> Json:
        """The result on the wire; one request at a time. Raises `Refused`."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": envelope(tasks=tasks)}}
        self._process.stdin.write(json.dumps(body).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                message = json.loads(await self._process.stdout.readline())
                if message.get("id") == number:
                    break
        if "error" in message:
            raise Refused(None, message["error"])
        result: Json = message["result"]
        return result


@asynccontextmanager
async def modern_lines(workspace: Workspace) -> AsyncIterator[ModernLines]:
    server = workspace.server()
    process = await asyncio.create_subprocess_exec(
        server.command,
        *server.args,
        env=server.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield ModernLines(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await asyncio.wait_for(process.wait(), DEADLINE_S)


async def core_request(client: Client, method: str, **params: Any) -> Json:
    """A request of 2025-11-25 through the SDK's session, and its result as it stood on the wire.

    Raises `MCPError`. Raw, as the SDK's own way refuses a task where it knows only results.
    """
    return await sdk.request(client.session, method, params, timeout_s=DEADLINE_S)


async def core_call(client: Client, tool: str, arguments: Json, **task: Any) -> Json:
    """A call as a task: the task."""
    created = await core_request(client, "tools/call", name=tool, arguments=arguments, task=task)
    made: Json = created["task"]
    return made


async def core_refusal(client: Client, method: str, **params: Any) -> tuple[int, str]:
    """The error that a request is answered with."""
    try:
        result = await core_request(client, method, **params)
    except MCPError as error:
        return error.error.code, error.error.message
    raise AssertionError(f"{method} was answered with {result}")


async def core_until(client: Client, task_id: str, *statuses: str) -> Json:
    """The task once it has one of `statuses`. Raises `TimeoutError`."""
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up:
        task = await core_request(client, "tasks/get", taskId=task_id)
        if task["status"] in statuses:
            return task
        await asyncio.sleep(0.05)
    raise TimeoutError(f"task {task_id} was none of {statuses} within {DEADLINE_S} s")
