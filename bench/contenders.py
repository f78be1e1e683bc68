"""The processes that are measured: started, waited for, called, timed, and ended."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 60.0
HOLDFAST = Path(sys.executable).with_name("holdfast")
STDIO_DOWNSTREAM = (sys.executable, "-m", "bench.downstream")
REPOSITORY = Path(__file__).resolve().parents[1]

Transport = Literal["HTTP", "stdio"]
Era = Literal["2026-07-28", "2025-11-25"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to reach the downstream: over HTTP at `url`, or on the stdio of `command`.

    What is reached on stdio has its downstream on stdio too. `http_prefix` and `stdio_prefix` are what tools are
    called there before their own names. `pid` is the gateway's process; the direct way has none.
    """

    name: str
    url: str
    command: tuple[str, ...]
    folder: Path
    pid: int | None = None
    http_prefix: str = ""
    stdio_prefix: str = ""

    def tool(self, name: str, transport: Transport) -> str:
        """What the downstream's tool `name` is called here."""
        return (self.http_prefix if transport == "HTTP" else self.stdio_prefix) + name

    @contextlib.asynccontextmanager
    async def client(self, transport: Transport, era: Era) -> AsyncIterator[Client]:
        """A client that may have any number of calls in flight."""
        mode = "legacy" if era == "2025-11-25" else era
        async with contextlib.AsyncExitStack() as stack:
            if transport == "stdio":
                env = environment(self.folder)
                server = StdioServerParameters(
                    command=self.command[0], args=list(self.command[1:]), env=env, cwd=REPOSITORY
                )
                reached = stdio_client(server, errlog=stack.enter_context((self.folder / "stdio.log").open("a")))
            else:
                # Dropped well before uvicorn's own 5 s are over: else a request may go out on a connection just closed.
                limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
                http = await stack.enter_async_context(httpx2.AsyncClient(timeout=CALL_TIMEOUT_S, limits=limits))
                reached = streamable_http_client(self.url, http_client=http)
            yield await stack.enter_async_context(Client(reached, mode=mode, read_timeout_seconds=CALL_TIMEOUT_S))

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


def holdfast_config(folder: Path, downstream_url: str, store: Path | None = None) -> Path:
    """Validation and policy on, the durable journal on: the defaults, with rules to evaluate on every call."""
    rules = [
        {
            "id": "many-tags",
            "match": {"tool": "*__record"},
            "when": "has(args.tags) && size(args.tags) > 6",
            "effect": "require_approval",
        },
        {"id": "no-root", "match": {"server": "*"}, "when": 'args.customer == "root"', "effect": "deny"},
    ]
    stdio = {"command": STDIO_DOWNSTREAM[0], "args": STDIO_DOWNSTREAM[1:], "cwd": str(REPOSITORY)}
    servers = {"bench": {"url": downstream_url}, "local": stdio}
    path = folder / "holdfast.yaml"
    placed = {} if store is None else {"store": f"sqlite://{store}"}
    path.write_text(json.dumps({"mcpServers": servers, "rules": rules, **placed}, indent=2))
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
        started = [Contender("direct", url, STDIO_DOWNSTREAM, folder)]
        for name in names:
            port = free_port()
            gateway = (sys.executable, "-m", f"bench.{name}_gateway")
            stdio: tuple[str, ...] = (*gateway, *STDIO_DOWNSTREAM)
            http: tuple[str, ...] = (*gateway, url, str(port))
            http_prefix = stdio_prefix = ""
            if name == "holdfast":
                stdio = (str(HOLDFAST), "serve", str(holdfast_config(folder, url)))
                http = (*stdio, "--http", f"127.0.0.1:{port}")
                http_prefix, stdio_prefix = "bench__", "local__"
            pid = listening(name, http, port)
            at = f"http://127.0.0.1:{port}/mcp"
            started.append(Contender(name, at, stdio, folder, pid, http_prefix, stdio_prefix))
        yield started
