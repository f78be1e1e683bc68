"""Holdfast in front of servers that offer more than tools, and what their clients hear."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from support.processes import Processes, Running, wait_until

SERVERS = Path(__file__).parent / "servers"
START_S = 20.0
DEADLINE_S = 20.0
QUIET_S = 0.5
"""How long nothing more must come, for once to be once."""


class Offering:
    """One such server, of `servers`: how it is started or reached, and what it noted."""

    def __init__(self, folder: Path, name: str, *options: str, server: str = "offering.py") -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.command = [sys.executable, str(SERVERS / server), str(self.log), "--name", name, *options]
        self.running: Running | None = None
        self.url: str | None = None

    def serve(self, processes: Processes) -> None:
        """Start it; from now on it is reached over HTTP."""
        self.running = processes.start([*self.command, "--http"])
        self.url = self.running.wait_for(r"listening on (\S+)", START_S).group(1)

    @property
    def is_modern(self) -> bool:
        return "--legacy" not in self.command

    def entry(self) -> dict[str, Any]:
        """As an entry of `mcpServers`."""
        if self.url is not None:
            return {"url": self.url}
        command, *arguments = self.command
        return {"command": command, "args": arguments}

    def refuse_to_start(self) -> None:
        """From now on it cannot be reached, or each start of it fails at once."""
        if self.running is not None:
            self.running.end()
            return
        self.log.unlink(missing_ok=True)
        self.log.mkdir()

    def noted(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    async def notes(self, line: str) -> None:
        """Wait until it noted `line`."""
        await anyio.to_thread.run_sync(wait_until, lambda: line in self.noted(), DEADLINE_S, f"{self.name}: {line}")


class Heard:
    """What a client was told, in order."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._more = anyio.Event()

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)
        self._more.set()

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(DEADLINE_S):
            while not condition():
                self._more = anyio.Event()
                await self._more.wait()


async def text_of(client: Client, uri: str) -> str:
    (contents,) = (await client.read_resource(uri)).contents
    return str(getattr(contents, "text", ""))
