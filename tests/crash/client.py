"""A client process of a storm: several callers on one connection, which may all be killed at any moment.

    python -m crash.client FOLDER NUMBER ERA SEED CALLERS [--url URL] [--finish]

Over stdio, through a `holdfast serve` of its own, or over HTTP where there is a URL. A caller pursues one effect after
the other until it knows what became of it. With a key it repeats the call; without one it asks only once, and looks for
what became of that in the tasks of its run. All it asks and hears is noted first, so that a successor with the same
NUMBER takes up where a killed one stopped. SIGTERM, or `--finish`: begin nothing new, and end when all is known.
"""

import argparse
import os
import random
import signal
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
from crash.notes import CLIENTS, Notes
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from support.workspace import Workspace

CALL = "dev.holdfast/call"
KEY = "dev.holdfast/idempotencyKey"
RUN = "dev.holdfast/run"
RESTARTED = "the engine restarted"

TOOLS = {"write": 6, "read": 2, "destroy": 2, "fail": 1}
"""How often each is called; `destroy` has to be approved, `fail` has its effect and says that it failed."""

KEYED = 0.6
CANCELLED = 0.1
LONGEST_EFFECT_MS = 400
ANSWER_S = 90.0
WAIT_S = 5
RECONNECT_S = 0.05
KNOCK_S = 0.02
NUMBERS = 1_000_000
"""Effects of client 3 have the numbers from 3,000,001 on."""

OPEN = frozenset({"queued", "running", "waiting_for_approval", "waiting_for_input"})
LOST = (MCPError, httpx2.HTTPError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

Json = dict[str, Any]


@dataclass
class Intent:
    """One call that a caller wants made, and what it knows of it."""

    n: int
    tool: str
    arguments: Json
    keyed: bool
    cancel_after_s: float | None = None
    asked: bool = False
    task_id: str | None = None
    deadline: float = 0.0


def drawn(seed: int, n: int) -> Intent:
    """What is to be done as number `n`: the same for the same seed."""
    chance = random.Random(f"{seed}/{n}")
    tool = chance.choices(tuple(TOOLS), tuple(TOOLS.values()))[0]
    arguments = {"n": n, "delay_ms": chance.randint(0, LONGEST_EFFECT_MS)}
    keyed = chance.random() < KEYED
    cancel_after_s = chance.uniform(0.0, 0.5) if chance.random() < CANCELLED else None
    return Intent(n, f"ledger__{tool}", arguments, keyed, cancel_after_s)


class ClientProcess:
    """The callers, the connection that they share, and what they have noted."""

    def __init__(
        self, folder: Path, number: int, era: str, seed: int, callers: int, url: str | None, *, finish: bool
    ) -> None:
        self.workspace = Workspace(folder)
        self.era = era
        self.seed = seed
        self.callers = callers
        self.url = url
        self.notes = Notes(folder / CLIENTS / f"{number}.jsonl")
        self._stopping = finish
        self._waiting = deque(self._unfinished())
        self._last = max((note["asked"] for note in self.notes.read() if "asked" in note), default=number * NUMBERS)

    async def run(self) -> None:
        """Call until told to stop, over as many connections as it takes."""
        self.notes.write(started=os.getpid())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_when_told)
            while self._waiting or not self._stopping:
                try:
                    async with self._connected() as client:
                        await self._call_on(client)
                except* LOST as lost:
                    self.notes.write(reconnects=sorted({f"{type(e).__name__}: {e}" for e in _leaves(lost)}))
                await anyio.sleep(RECONNECT_S)
            tasks.cancel_scope.cancel()

    async def _stop_when_told(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self._stopping = True

    def _unfinished(self) -> list[Intent]:
        """What a predecessor was at when it was killed."""
        intents: dict[int, Intent] = {}
        for note in self.notes.read():
            if "asked" in note:
                n = note["asked"]
                intents[n] = Intent(n, note["tool"], note["arguments"], note["keyed"], asked=True)
            elif "over" in note:
                del intents[note["over"]]
        return list(intents.values())

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        if self.url is None:
            async with Client(self.workspace.server(), mode=self.era, cache=None) as client:
                yield client
            return
        await self._reachable(httpx2.URL(self.url))
        async with (
            httpx2.AsyncClient(timeout=ANSWER_S) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=self.era, cache=None) as client,
        ):
            yield client

    async def _reachable(self, url: httpx2.URL) -> None:
        """Wait until somebody listens: far cheaper than a client that fails, on a machine that starts an engine."""
        while True:
            with suppress(OSError):
                async with await anyio.connect_tcp(url.host, url.port or 80):
                    return
            await anyio.sleep(KNOCK_S)

    async def _call_on(self, client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(self.callers):
                tasks.start_soon(self._caller, client)

    async def _caller(self, client: Client) -> None:
        while (intent := self._next()) is not None:
            try:
                await self._pursue_in_time(client, intent)
            except BaseException:
                self._waiting.append(intent)
                raise
            self.notes.write(over=intent.n)

    def _next(self) -> Intent | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._stopping:
            return None
        self._last += 1
        return drawn(self.seed, self._last)

    # --- one intent -------------------------------------------------------------------------------------------

    async def _pursue_in_time(self, client: Client, intent: Intent) -> None:
        intent.deadline = intent.deadline or anyio.current_time() + ANSWER_S
        with anyio.CancelScope(deadline=intent.deadline) as scope:
            async with anyio.create_task_group() as tasks:
                if intent.cancel_after_s is not None:
                    tasks.start_soon(self._withdraw, client, intent, intent.cancel_after_s)
                await self._pursue(client, intent)
                tasks.cancel_scope.cancel()
        if scope.cancelled_caught:
            self.notes.write(unanswered=intent.n)

    async def _pursue(self, client: Client, intent: Intent) -> None:
        """Ask until it is known what became of it."""
        while True:
            try:
                call = await self._ask(client, intent)
            except MCPError as error:
                if RESTARTED not in str(error):
                    raise
                self.notes.write(cut=intent.n)
                continue
            if call is None or call["status"] not in OPEN:
                return
            intent.task_id = call["id"]

    async def _ask(self, client: Client, intent: Intent) -> Json | None:
        """What Holdfast says of the call now; None where it knows of none."""
        if intent.task_id is not None:
            waiting = {"task_id": intent.task_id, "timeout_s": WAIT_S}
            return self._heard(intent, await client.call_tool("holdfast__wait_task", waiting))
        if intent.asked and not intent.keyed:
            return await self._found(client, intent)
        if not intent.asked:
            self.notes.write(asked=intent.n, tool=intent.tool, arguments=intent.arguments, keyed=intent.keyed)
            intent.asked = True
        meta: Any = {RUN: _run(intent), **({KEY: f"effect-{intent.n}"} if intent.keyed else {})}
        return self._heard(intent, await client.call_tool(intent.tool, intent.arguments, meta=meta))

    async def _found(self, client: Client, intent: Intent) -> Json | None:
        listed = await client.call_tool("holdfast__list_tasks", {"run": _run(intent)})
        for task in (listed.structured_content or {})["tasks"]:
            self.notes.write(told=intent.n, id=task["task_id"], status=task["status"])
            return {"id": task["task_id"], "status": task["status"]}
        return None

    async def _withdraw(self, client: Client, intent: Intent, after_s: float) -> None:
        """Cancel it, at whatever it then is."""
        await anyio.sleep(after_s)
        intent.cancel_after_s = None
        try:
            call = await self._found(client, intent) if intent.asked else None
            if call is not None:
                self._heard(intent, await client.call_tool("holdfast__cancel_task", {"task_id": call["id"]}))
        except MCPError as error:
            if RESTARTED not in str(error):
                raise

    def _heard(self, intent: Intent, result: Any) -> Json:
        call: Json = (result.meta or {}).get(CALL) or {"id": None, "status": "refused"}
        self.notes.write(told=intent.n, id=call["id"], status=call["status"])
        return call


def _run(intent: Intent) -> str:
    return f"run-{intent.n}"


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("era")
    parser.add_argument("seed", type=int)
    parser.add_argument("callers", type=int)
    parser.add_argument("--url")
    parser.add_argument("--finish", action="store_true")
    options = parser.parse_args()
    process = ClientProcess(
        options.folder,
        options.number,
        options.era,
        options.seed,
        options.callers,
        options.url,
        finish=options.finish,
    )
    anyio.run(process.run)


if __name__ == "__main__":
    main()
