"""What ten thousand parked calls cost: memory of the engine's process, and the first page of what waits for people.

python -m bench.parked [--calls 10000]

Exit code 1 where the calls take more than 30 MB or the page more than 50 ms.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
from bench.contenders import END_TIMEOUT_S, HOLDFAST, environment, free_port, running, wait_listening
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

CALLS = 10_000
WARM_UP = 500
IN_FLIGHT = 64
PAGES = 21
MOST_MEMORY_MB = 30.0
MOST_PAGE_MS = 50.0
LOAD_TIMEOUT_S = 300.0
REQUEST_TIMEOUT_S = 30.0
MEGABYTE = 1024 * 1024

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


@dataclass(frozen=True, slots=True)
class Parked:
    """`memory_mb`: what the engine's resident memory grew by. `first_page_ms`: the median of `PAGES` requests."""

    calls: int
    memory_mb: float
    first_page_ms: float

    @property
    def within_bounds(self) -> bool:
        """Whether both figures are what was promised."""
        return self.memory_mb <= MOST_MEMORY_MB and self.first_page_ms <= MOST_PAGE_MS

    def text(self) -> str:
        """The figures for people."""
        return (
            f"{self.calls:,} parked calls: {self.memory_mb:.1f} MB (bound {MOST_MEMORY_MB:g}), "
            f"first page of list_approvals {self.first_page_ms:.1f} ms (bound {MOST_PAGE_MS:g})"
        )

    def as_json(self) -> dict[str, Any]:
        """The figures for programs."""
        return asdict(self)


def measure_parked(folder: Path, calls: int) -> Parked:
    """Park `calls` calls in an engine of their own in `folder`, whose path must be short."""
    downstream, rule = [sys.executable, "-m", "bench.downstream"], {"id": "ask", "effect": "require_approval"}
    server = {"command": downstream[0], "args": downstream[1:], "cwd": str(Path(__file__).resolve().parents[1])}
    config = folder / "parked.yaml"
    config.write_text(json.dumps({"mcpServers": {"bench": server}, "rules": [{**rule, "match": {"server": "bench"}}]}))
    port = free_port()
    serve = [str(HOLDFAST), "serve", str(config)]
    with running("parked", [*serve, "--http", f"127.0.0.1:{port}"], folder) as engine:
        wait_listening("parked", port, engine, folder)
        (token,) = folder.glob("holdfast/*/admin.token")
        return asyncio.run(_measure(serve, folder, engine.pid, port, token.read_text().strip(), calls))


async def _measure(serve: list[str], folder: Path, pid: int, port: int, token: str, calls: int) -> Parked:
    url = f"http://127.0.0.1:{port}/admin/mcp"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=REQUEST_TIMEOUT_S) as http,
        Client(streamable_http_client(url, http_client=http), mode="2026-07-28", cache=None) as admin,
    ):
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await _park(serve, folder, 0, WARM_UP)
            await _first_page_s(admin)
            before = _resident_bytes(pid)
            await _park(serve, folder, WARM_UP, calls)
        pages = [await _first_page_s(admin) for _ in range(PAGES)]
        memory = _resident_bytes(pid) - before
    return Parked(calls, round(memory / MEGABYTE, 1), round(statistics.median(pages) * 1000, 1))


async def _first_page_s(admin: Client) -> float:
    began = time.perf_counter()
    answer = await admin.call_tool("list_approvals", {"limit": 50})
    took_s = time.perf_counter() - began
    if answer.is_error or answer.structured_content is None or len(answer.structured_content["approvals"]) != 50:
        raise RuntimeError(f"no first page: {answer.content}")
    return took_s


async def _park(serve: list[str], folder: Path, first: int, count: int) -> None:
    """Ask for `count` calls over stdio, many at once. Raises `RuntimeError` where one is not parked."""
    process = await asyncio.create_subprocess_exec(
        *serve,
        env=environment(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MEGABYTE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process was started without pipes")
    try:
        await _exchange(process.stdin, process.stdout, first, count)
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), END_TIMEOUT_S)


async def _exchange(to: asyncio.StreamWriter, answers: asyncio.StreamReader, first: int, count: int) -> None:
    _write(to, id="open", method="initialize", params=INITIALIZE)
    await answers.readline()
    _write(to, method="notifications/initialized")
    asked = 0
    for answered in range(count):
        while asked < min(count, answered + IN_FLIGHT):
            arguments = {"n": first + asked, "customer": "c-1029", "tags": ["gold", "eu"]}
            _write(to, id=asked, method="tools/call", params={"name": "bench__record", "arguments": arguments})
            asked += 1
        await to.drain()
        answer = json.loads(await answers.readline())
        if answer.get("result", {}).get("_meta", {}).get("dev.holdfast/call", {}).get("status") != (
            "waiting_for_approval"
        ):
            raise RuntimeError(f"a call was not parked: {answer}")


def _write(to: asyncio.StreamWriter, **message: Any) -> None:
    to.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def _resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"process {pid} has no resident memory")
    return int(found.group(1)) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.parked", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hf-bench-") as folder:
        parked = measure_parked(Path(folder), options.calls)
    print(parked.text())
    return 0 if parked.within_bounds else 1


if __name__ == "__main__":
    sys.exit(main())
