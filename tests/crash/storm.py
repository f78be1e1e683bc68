"""Clients under load while their engine is killed, again and again, at random moments.

    python tests/crash/storm.py [--kills 200] [--clients 8] [--seed N] [--json]

Each client speaks through a shim of its own, repeats a call with the same key until it gets a definite answer, and
notes every call id it was ever given. `judge` then compares what the clients were told with the store and with the
ledger that the downstream synced. Exit code 1 where a promise was broken.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.shared.exceptions import MCPError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash.judge import Report, judge
from support.workspace import Workspace

CALL = "dev.holdfast/call"
KEY = "dev.holdfast/idempotencyKey"

LONGEST_EFFECT_MS = 300
ANSWER_S = 60.0
LIFE_S = (0.05, 1.2)  # how long an engine that serves again is left alive
RECOVERY_S = 30.0

ERAS = ("auto", "legacy")


@dataclass
class Told:
    """What the clients saw."""

    acknowledged: set[str] = field(default_factory=set)
    done: dict[int, str] = field(default_factory=dict)
    answers: int = 0
    restarts_seen: int = 0
    last_answer_at: float = 0.0


class Storm:
    """One run: `clients` of them, until the engine was killed `kills` times and every call has its answer."""

    def __init__(self, workspace: Workspace, kills: int, clients: int, seed: int) -> None:
        self.workspace = workspace
        self.kills = kills
        self.clients = clients
        self.random = random.Random(seed)
        self.told = Told()
        self.killed_at: list[float] = []
        self.recovery_s: list[float] = []
        self._next = 0
        self._over = anyio.Event()

    async def run(self) -> Report:
        """Blow, then let it settle, then judge."""
        async with anyio.create_task_group() as tasks:
            for number in range(self.clients):
                tasks.start_soon(self._client, ERAS[number % len(ERAS)])
            await self._kill_again_and_again()
            self._over.set()
        return await judge(self.workspace, self.told, self.killed_at, self.recovery_s)

    # --- the clients ------------------------------------------------------------------------------------------

    async def _client(self, era: str) -> None:
        async with Client(self.workspace.server(), mode=era, cache=None) as client:
            while not self._over.is_set():
                self._next += 1
                await self._pursue(client, self._next)

    async def _pursue(self, client: Client, n: int) -> None:
        """Ask for effect `n` until the answer is definite: done, failed, parked or in doubt."""
        tool, arguments = self._draw(n)
        meta = {KEY: f"effect-{n}"}
        task_id: str | None = None
        with anyio.fail_after(ANSWER_S):
            while True:
                try:
                    if task_id is None:
                        result = await client.call_tool(tool, arguments, meta=meta)
                    else:
                        result = await client.call_tool("holdfast__wait_task", {"task_id": task_id, "timeout_s": 5})
                except MCPError as error:
                    if "the engine" not in str(error):
                        raise
                    self.told.restarts_seen += 1
                    continue
                status = self._note(n, result.meta[CALL])
                if status not in ("queued", "running"):
                    return
                task_id = result.meta[CALL]["id"]

    def _draw(self, n: int) -> tuple[str, dict[str, Any]]:
        tool = self.random.choices(("write", "read", "destroy"), (8, 1, 1))[0]
        return f"ledger__{tool}", {"n": n, "delay_ms": self.random.randint(0, LONGEST_EFFECT_MS)}

    def _note(self, n: int, call: dict[str, Any]) -> str:
        self.told.answers += 1
        self.told.last_answer_at = time.time()
        if call["id"] is not None:
            self.told.acknowledged.add(call["id"])
        if call["status"] == "done":
            self.told.done[n] = call["id"]
        return str(call["status"])

    # --- the killer -------------------------------------------------------------------------------------------

    async def _kill_again_and_again(self) -> None:
        await self._answered_since(0.0)
        while len(self.killed_at) < self.kills:
            await anyio.sleep(self.random.uniform(*LIFE_S))
            pid = self._engine_pid()
            if pid is None:
                continue
            at = time.time()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed_at.append(at)
                self.recovery_s.append(await self._answered_since(at, unlike=pid))

    def _engine_pid(self) -> int | None:
        for path in self.workspace.state_home.glob("holdfast/*/engine.lock"):
            with suppress(ValueError, KeyError, OSError):
                return int(json.loads(path.read_text())["pid"])
        return None

    async def _answered_since(self, at: float, unlike: int | None = None) -> float:
        """Seconds from `at` until a client was answered by another engine than `unlike`."""
        with anyio.fail_after(RECOVERY_S):
            while self._engine_pid() in (unlike, None):
                await anyio.sleep(0.005)
            seen = time.time()
            while self.told.last_answer_at < max(at, seen if unlike is not None else 0.0) or not self.told.answers:
                await anyio.sleep(0.005)
        return self.told.last_answer_at - at


def storm(kills: int, clients: int, seed: int) -> Report:
    """Run one storm in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        workspace = Workspace(Path(folder))
        workspace.write_config()
        try:
            return anyio.run(Storm(workspace, kills, clients, seed).run)
        finally:
            workspace.end_all()


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the engine under load, and judge what became of every call.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = storm(options.kills, options.clients, options.seed)
    print(json.dumps(report.figures(), indent=2) if options.json else report.text())
    print(f"seed {options.seed}", file=sys.stderr)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
