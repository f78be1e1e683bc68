"""One engine under load: its clients, its downstream, what can be killed of them, and when it serves again.

The `stdio` house has a detached engine behind shims, which start it again. In the `http` house the engine is in the
foreground, and this process starts it again, as a service manager would.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
from crash.notes import CLIENTS, KILLS, Notes, Tail
from support.processes import alive
from support.workspace import HOLDFAST, Workspace

Kind = Literal["engine", "downstream", "client", "shim"]
Transport = Literal["stdio", "http"]

ERAS = ("auto", "legacy")
TESTS = Path(__file__).resolve().parents[1]

POLL_S = 0.005
SERVING_S = 60.0
"""An engine or a downstream that does not serve again within this is stuck."""
FINISH_S = 120.0
GONE_S = 20.0
"""How long after the last engine's death its downstreams may live; a shim waits 10 s for what is due."""


class Stuck(Exception):
    """What should have come back did not, within its time."""


class House:
    """`clients` processes with `callers` callers each, the eras in turn, in front of one engine in `folder`."""

    def __init__(
        self, folder: Path, transport: Transport, first_client: int, clients: int, callers: int, seed: int
    ) -> None:
        folder.mkdir()
        self.transport = transport
        self.workspace = Workspace(folder)
        self.workspace.write_config()
        self.broken: list[str] = []
        self._port = _free_port() if transport == "http" else 0
        self._numbers = range(first_client, first_client + clients)
        self._callers = callers
        self._seed = seed
        self._kills = Notes(folder / KILLS)
        self._told = {number: Tail(folder / CLIENTS / f"{number}.jsonl") for number in self._numbers}
        self._ledger = _LedgerTail(self.workspace.ledger.path)
        self._clients: dict[int, subprocess.Popen[bytes]] = {}
        self._engine: subprocess.Popen[bytes] | None = None
        self._answered_at = 0.0
        self._finishing = False
        self._ending = False
        self.answers = 0

    async def run(self) -> None:
        """Keep the engine (over HTTP) and the clients alive, whoever kills them, until `finish`."""
        async with anyio.create_task_group() as tasks:
            if self.transport == "http":
                tasks.start_soon(self._keep_serving)
            for number in self._numbers:
                tasks.start_soon(self._keep_calling, number)

    async def finish(self) -> None:
        """Have every client find out what became of all that it asked, and end."""
        self._finishing = True
        for client in self._clients.values():
            with suppress(ProcessLookupError):
                client.send_signal(signal.SIGTERM)
        await self.wait_for(lambda: not self._clients, FINISH_S, "the end of the clients")

    async def end(self) -> None:
        """Kill the engine for the last time: nothing that it or its clients started may be left of it."""
        self._ending = True
        for pid in self.victims("engine"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with anyio.move_on_after(GONE_S):
            while self.left():
                await anyio.sleep(POLL_S)
        if left := self.left():
            raise Stuck(f"{self.transport}: {GONE_S:g} s after their engine these processes are alive: {left}")

    def abandon(self) -> None:
        """End every process of this house that is still there."""
        for client in self._clients.values():
            client.kill()
            client.wait()
        self.workspace.end_all()

    def left(self) -> list[str]:
        """The command lines of the processes that belong to this house's engine or shims."""
        pids = {*self.workspace.processes(), *self.downstreams()} - {p.pid for p in self._clients.values()}
        return [_command(pid).replace("\0", " ").strip() for pid in sorted(pids) if alive(pid)]

    # --- what can be killed -----------------------------------------------------------------------------------

    def victims(self, kind: Kind) -> list[int]:
        """The processes of this kind, the oldest first."""
        if kind == "engine":
            pid = self.engine_pid()
            return [pid] if pid is not None and alive(pid) else []
        if kind == "downstream":
            return [pid for pid in self.downstreams() if _parent(pid) == self.engine_pid()]
        if kind == "client":
            return [client.pid for client in self._clients.values() if client.poll() is None]
        return [pid for pid in self.workspace.processes() if "serve" in _command(pid).split("\0")]

    async def some(self, kind: Kind, unlike: int | None = None) -> list[int]:
        """The same without one of them, once there are any."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid in self.victims(kind) if pid != unlike]
            return bool(found)

        await self.wait_for(look, SERVING_S, f"a running {kind}")
        return found

    def kill(self, kind: Kind, pid: int) -> float:
        """SIGKILL one of them; when that was, by a clock that was read just before."""
        at: float = self._kills.write(killed=kind, pid=pid)["at"]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return at

    def engine_pid(self) -> int | None:
        """The process that says in the lock that it is the engine."""
        for path in self.workspace.state_home.glob("holdfast/*/engine.lock"):
            with suppress(ValueError, KeyError, OSError):
                return int(json.loads(path.read_text())["pid"])
        return None

    def downstreams(self) -> list[int]:
        """Every downstream of this house that is alive."""
        ledger = str(self.workspace.ledger.path)
        pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        return sorted(pid for pid in pids if ledger in _command(pid).split("\0") and alive(pid))

    # --- how long until it is back ----------------------------------------------------------------------------

    async def next_engine(self, killed: int) -> int:
        """The engine that comes after `killed`, as soon as it holds the lock."""
        (pid,) = await self.some("engine", unlike=killed)
        return pid

    async def engine_back(self, killed: int, at: float) -> float:
        """Seconds from `at` until a client had an answer of the engine that came after `killed`."""
        await self.next_engine(killed)
        started = time.time()
        await self.wait_for(lambda: self.answered_at() >= started, SERVING_S, "an answer of the next engine")
        return self._recovered("engine", at, self._answered_at)

    async def serving(self) -> None:
        """Wait for the very first answer."""
        await self.wait_for(lambda: self.answered_at() > 0, SERVING_S, "the first answer")

    async def downstream_back(self, killed: int, at: float) -> float:
        """Seconds from `at` until the downstream that came after `killed` had done what a call asked of it."""
        done_at = 0.0

        def done() -> bool:
            nonlocal done_at
            done_at = next((when for pid, when in self._ledger.new() if pid != killed and when >= at), 0.0)
            return bool(done_at)

        await self.wait_for(done, SERVING_S, "the next call that the downstream executes")
        return self._recovered("downstream", at, done_at)

    def answered_at(self) -> float:
        """When a client last had an answer."""
        for tail in self._told.values():
            for note in tail.new():
                if "told" in note:
                    self.answers += 1
                    self._answered_at = max(self._answered_at, note["at"])
        return self._answered_at

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Poll. Raises `Stuck` naming what did not come."""
        with anyio.move_on_after(timeout_s):
            while not condition():
                await anyio.sleep(POLL_S)
            return
        raise Stuck(f"{self.transport}: {what} did not come within {timeout_s:g} s")

    def _recovered(self, kind: Kind, at: float, back_at: float) -> float:
        self._kills.write(recovered=kind, after_s=back_at - at)
        return back_at - at

    # --- who starts what was killed ---------------------------------------------------------------------------

    async def _keep_serving(self) -> None:
        while not self._ending:
            command = [HOLDFAST, "serve", self.workspace.config, "--http", f"127.0.0.1:{self._port}"]
            self._engine = self._start("engine", command, self.workspace.environment)
            await self._ended(self._engine, "the engine")
        self._engine = None

    async def _keep_calling(self, number: int) -> None:
        era = ERAS[number % len(ERAS)]
        url = ["--url", f"http://127.0.0.1:{self._port}/mcp"] if self.transport == "http" else []
        arguments = [self.workspace.folder, number, era, self._seed, self._callers, *url]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        code = None
        while code != 0 or not self._finishing:
            command = [sys.executable, "-m", "crash.client", *arguments, *(["--finish"] if self._finishing else [])]
            client = self._clients[number] = self._start(f"client-{number}", command, environment)
            code = await self._ended(client, f"client {number}")
        del self._clients[number]

    def _start(self, name: str, command: Sequence[Any], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start it in a session of its own: the terminal's Ctrl-C is for the storm alone."""
        with (self.workspace.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.workspace.folder,
                start_new_session=True,
            )

    async def _ended(self, process: subprocess.Popen[bytes], name: str) -> int:
        """Its exit code. What ends otherwise than killed, or told to, is broken."""
        while (code := process.poll()) is None:
            await anyio.sleep(POLL_S)
        told_to = self._finishing and code in (0, -signal.SIGTERM)  # the latter where it had only just begun
        if code != -signal.SIGKILL and not told_to:
            self.broken.append(f"{self.transport}: {name} ended by itself with code {code}, see its log")
            await anyio.sleep(1.0)
        return code


class _LedgerTail:
    """Follows a ledger: which process has done what, and when."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._begun: dict[str, int] = {}

    def new(self) -> list[tuple[int, float]]:
        """The processes and times of the effects that were done since the last look."""
        done = []
        for line in self._tail.new():
            if line["line"] == "begin":
                self._begun[line["effect"]] = line["pid"]
            else:
                done.append((self._begun[line["effect"]], line["at"]))
        return done


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _parent(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[1])
