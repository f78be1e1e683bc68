"""The MCP Inspector's command line: a process, and a connection, per question. In the era of 2026 it follows tasks."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from callers import DEADLINE_S, Caller, Open, Said, Where
from node_packages import NodePackages

TOOL_IS_ERROR = 5
SERVER = "holdfast"


class InspectorCaller:
    """The command line with what it always says: which server, which era, and JSON please."""

    def __init__(self, command: list[str], home: Path) -> None:
        self._command = command
        self._home = home

    async def names(self) -> set[str]:
        return {tool["name"] for tool in (await self._run("tools/list"))["tools"]}

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        if patience_s is not None:
            raise NotImplementedError("the patience of this client is a setting of its own")
        result = await self._run("tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        words = "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
        return Said(words, result.get("isError", False))

    async def _run(self, method: str, *options: str) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--method", method, *options),
            env={"HOME": str(self._home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, TOOL_IS_ERROR):
            raise RuntimeError(f"the Inspector ended with {process.returncode}: {err.decode()}")
        result: dict[str, Any] = json.loads(out)["result"]
        return result


def inspector(era: str) -> Open:
    @asynccontextmanager
    async def opened(where: Where) -> AsyncIterator[Caller]:
        packages = await anyio.to_thread.run_sync(NodePackages.install)
        with tempfile.TemporaryDirectory(prefix="hf-inspector-") as folder:
            config = Path(folder) / "mcp.json"
            config.write_text(json.dumps({"mcpServers": {SERVER: _entry(where)}}))
            options = [
                "--config",
                str(config),
                "--server",
                SERVER,
                "--protocol-era",
                era,
                "--format",
                "json",
                "--quiet",
            ]
            yield InspectorCaller([*packages.inspector, *options], Path(folder))

    return opened


def _entry(where: Where) -> dict[str, Any]:
    """Where Holdfast is, as the Inspector's own file says it."""
    if isinstance(where, str):
        return {"type": "streamable-http", "url": where}
    return {"type": "stdio", **where.model_dump(mode="json", include={"command", "args", "env", "cwd"})}
