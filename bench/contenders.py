"""The processes that are measured: started, waited for, timed, and ended."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
HOLDFAST = Path(sys.executable).with_name("holdfast")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to reach the downstream over HTTP. `pid` is the gateway's process; the direct way has none."""

    name: str
    url: str
    read_tool: str
    write_tool: str
    pid: int | None

    def cpu_s(self) -> float:
        """User and system time that the gateway's process has used so far; 0 where there is no gateway."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(state_home: Path) -> dict[str, str]:
    """What every process is started with: a state home of its own, no proxies in the way of loopback."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "XDG_STATE_HOME": str(state_home), "XDG_RUNTIME_DIR": str(state_home)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(name: str, command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to ``<folder>/<name>.log``; ended on the way out."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(folder)
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT_S)


def wait_listening(name: str, port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until something accepts on `port`. Raises `RuntimeError` with the process's output when it does not."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            log = (folder / f"{name}.log").read_text(errors="replace")
            raise RuntimeError(f"{name} does not listen (exit code {process.poll()}):\n{log[-2000:]}")
        time.sleep(0.02)


def holdfast_config(folder: Path, downstream_url: str) -> Path:
    """Validation and policy on, the durable journal on: the defaults, with rules to evaluate on every call."""
    rules = [
        {
            "id": "many-tags",
            "match": {"tool": "bench__record"},
            "when": "has(args.tags) && size(args.tags) > 6",
            "effect": "require_approval",
        },
        {"id": "no-root", "match": {"server": "bench"}, "when": 'args.customer == "root"', "effect": "deny"},
    ]
    path = folder / "holdfast.yaml"
    path.write_text(json.dumps({"mcpServers": {"bench": {"url": downstream_url}}, "rules": rules}, indent=2))
    return path


@contextlib.contextmanager
def all_contenders(folder: Path, names: Sequence[str]) -> Iterator[list[Contender]]:
    """Start the downstream and the named gateways in front of it; end them all on the way out."""
    with contextlib.ExitStack() as stack:

        def listening(name: str, command: Sequence[str], port: int) -> int:
            process = stack.enter_context(running(name, command, folder))
            wait_listening(name, port, process, folder)
            return process.pid

        port = free_port()
        url = f"http://127.0.0.1:{port}/mcp"
        listening("downstream", [sys.executable, "-m", "bench.downstream", str(port)], port)
        started = [Contender("direct", url, "lookup", "record", None)]
        for name in names:
            port = free_port()
            prefix = ""
            if name == "holdfast":
                config = holdfast_config(folder, url)
                command = [str(HOLDFAST), "serve", str(config), "--http", f"127.0.0.1:{port}"]
                prefix = "bench__"
            else:
                command = [sys.executable, "-m", f"bench.{name}_gateway", url, str(port)]
            pid = listening(name, command, port)
            started.append(Contender(name, f"http://127.0.0.1:{port}/mcp", f"{prefix}lookup", f"{prefix}record", pid))
        yield started
