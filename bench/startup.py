"""From spawn to the first answered `tools/list` on stdio: what a client waits when it opens."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench.contenders import END_TIMEOUT_S, HOLDFAST, STDIO_DOWNSTREAM, environment

ANSWER_TIMEOUT_S = 60.0

REQUESTS = (
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
)


def measure_startup(folder: Path, config: Path, tries: int) -> dict[str, float]:
    """The median milliseconds of `tries` starts of each kind, by a name for people."""
    proxy = [sys.executable, "-m", "bench.fastmcp_gateway", *STDIO_DOWNSTREAM]
    serve = [str(HOLDFAST), "serve", str(config)]
    stop = [str(HOLDFAST), "engine", "stop", str(config)]

    def stop_engine() -> None:
        subprocess.run(stop, env=environment(folder), check=True, capture_output=True, timeout=ANSWER_TIMEOUT_S)

    def nothing() -> None:
        """These starts share nothing that would have to be undone."""

    kinds: tuple[tuple[str, Sequence[str], Callable[[], None]], ...] = (
        ("the downstream itself, no gateway", STDIO_DOWNSTREAM, nothing),
        ("FastMCP's proxy", proxy, nothing),
        ("Holdfast, engine cold", serve, stop_engine),
        ("Holdfast, engine live", serve, nothing),
    )
    _first_list_s(serve, folder)
    measured = {}
    try:
        for name, command, before in kinds:
            samples = []
            for _ in range(tries):
                before()
                samples.append(_first_list_s(command, folder))
            measured[name] = median(samples) * 1000
    finally:
        stop_engine()
    return measured


def _first_list_s(command: Sequence[str], folder: Path) -> float:
    with (folder / "startup.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment(folder)
        )
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the process was started without pipes")
            process.stdin.write(b"".join(json.dumps(request).encode() + b"\n" for request in REQUESTS))
            process.stdin.flush()
            _await_tools(process.stdout.fileno(), command)
            return time.perf_counter() - began
        finally:
            process.communicate(timeout=END_TIMEOUT_S)


def _await_tools(descriptor: int, command: Sequence[str]) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    received = b""
    while True:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(descriptor, 65536) if readable else b""
        if not chunk:
            raise RuntimeError(f"{command[0]} did not answer tools/list: {received[-500:]!r}")
        received += chunk
        for line in received.split(b"\n")[:-1]:
            message = json.loads(line)
            if message.get("id") == 2:
                if not message["result"]["tools"]:
                    raise RuntimeError(f"{command[0]} listed no tools")
                return
