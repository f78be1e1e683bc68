"""A client as bare as they come: JSON lines over a `holdfast serve` of its own, in the handshake era, without cancels.

Frameworks on older SDKs behave like this: when their patience ends they tell nobody, and some spawn a server per call.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from asking import DEADLINE_S
from support.workspace import Workspace

PATIENCE_S = 0.5
"""How long a server gets to end by itself once its stdin is closed."""

LINE_BYTES = 2**24

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "plain", "version": "1"},
}


class Unanswered(Exception):
    """The answer is an error, or the server is gone."""


class PlainClient:
    """Requests out, answers in; as many at once as one likes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._sent = 0

    async def call_tool(self, name: str, arguments: dict[str, Any], timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The result on the wire. Raises `TimeoutError`, which the server is not told of, and `Unanswered`."""
        return await self.request("tools/call", {"name": name, "arguments": arguments}, timeout_s)

    async def request(self, method: str, params: dict[str, Any], timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The result of any request; errors as for `call_tool`."""
        message = {"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}
        return await self.send(json.dumps(message).encode(), timeout_s)

    async def send(self, line: bytes, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The result of the request on `line`, whose id has to be the next one, `next_id`."""
        answer = self._waiting[self.next_id] = asyncio.get_running_loop().create_future()
        self._sent += 1
        await self._write(line)
        async with asyncio.timeout(timeout_s):
            message = await answer
        if "error" in message:
            raise Unanswered(message["error"])
        result: dict[str, Any] = message["result"]
        return result

    @property
    def next_id(self) -> int:
        """The id of the next request."""
        return self._sent + 1

    async def notify(self, method: str) -> None:
        await self._write(json.dumps({"jsonrpc": "2.0", "method": method}).encode())

    async def _write(self, line: bytes) -> None:
        if self._process.stdin is None:
            raise Unanswered("the server was started without stdin")
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def read(self) -> None:
        """Hand every answer to whoever waits for it, until the server ends."""
        if self._process.stdout is None:
            raise Unanswered("the server was started without stdout")
        async for line in self._process.stdout:
            message = json.loads(line)
            waiting = self._waiting.pop(message.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unanswered("the server ended"))


@asynccontextmanager
async def plain_client(workspace: Workspace) -> AsyncIterator[PlainClient]:
    """A client with a server of its own: stdin is closed at the end, and what does not end by itself is terminated."""
    server = workspace.server()
    process = await asyncio.create_subprocess_exec(
        server.command,
        *server.args,
        env=server.env,
        cwd=server.cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    client = PlainClient(process)
    reading = asyncio.create_task(client.read())
    try:
        await client.request("initialize", INITIALIZE)
        await client.notify("notifications/initialized")
        yield client
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        await reading
