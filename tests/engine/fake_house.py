"""A config, a state home, fake engines and shims in front of them; all that was started ends with the test."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.processes import alive, wait_until

from holdfast_server.engine.paths import StatePaths, state_paths

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 20.0


class ClosedError(Exception):
    """The shim closed its stdout."""


class ShimProcess:
    """A client's end of one shim."""

    def __init__(self, command: list[str], environment: Mapping[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            **options,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._may_read = threading.Event()
        self._may_read.set()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def send(self, method: str, message_id: Any = None, **params: Any) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if message_id is not None:
            message["id"] = message_id
        self.write(message)

    def write(self, message: Any) -> None:
        self.write_bytes(json.dumps(message).encode() + b"\n")

    def write_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The next message. Raises `ClosedError` at its end, `queue.Empty` when the time is up."""
        line = self._lines.get(timeout=timeout_s)
        if line is None:
            raise ClosedError
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, method: str, message_id: Any, **params: Any) -> dict[str, Any]:
        self.send(method, message_id, **params)
        answer = self.receive()
        assert answer["id"] == message_id
        return answer

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def stop_reading(self) -> None:
        """Take no more of the shim's stdout until `read_on`, but for a line that is under way."""
        self._may_read.clear()

    def read_on(self) -> None:
        self._may_read.set()

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        return self.process.wait(timeout_s)

    def stderr(self) -> str:
        """All of stderr; the process must be about to end."""
        self.wait()
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        self._may_read.set()
        self._reading.join(TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
            self._may_read.wait()
        self._lines.put(None)


class House:
    """`folder` must be short, so that the socket fits into the state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "holdfast.yaml"
        self.config.write_text("mcpServers: {}\n")
        self.journal = folder / "journal.jsonl"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_RUNTIME_DIR": str(folder),
        }
        self._shims: list[ShimProcess] = []

    @property
    def paths(self) -> StatePaths:
        return state_paths(self.config, self.environment)

    def engine_command(self, *options: str) -> list[str]:
        return [sys.executable, str(HERE / "fake_engine.py"), str(self.config), str(self.journal), *options]

    def shim(self, *engine_options: str, principal: str = "", **options: Any) -> ShimProcess:
        command = [sys.executable, str(HERE / "run_shim.py"), str(self.config), principal]
        shim = ShimProcess([*command, *self.engine_command(*engine_options)], self.environment, **options)
        self._shims.append(shim)
        return shim

    def entries(self, name: str) -> list[dict[str, Any]]:
        """The journal's entries that have `name`."""
        if not self.journal.exists():
            return []
        entries = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [entry for entry in entries if name in entry]

    def engines(self) -> list[int]:
        """The process ids of all engines that were started, in order."""
        return [entry["pid"] for entry in self.entries("started")]

    def received(self, method: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries("method") if entry["method"] == method]

    def kill_engine(self) -> int:
        """SIGKILL to the newest engine; returns when it is gone."""
        pid = self.engines()[-1]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), TIMEOUT_S, f"the end of engine {pid}")
        return pid

    def end_all(self) -> None:
        for shim in self._shims:
            shim.end()
        for pid in self.engines():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not alive(pid), TIMEOUT_S, f"the end of engine {pid}")  # type: ignore[misc]
