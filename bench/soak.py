"""`make soak`: mixed calls at the machine's limit for half an hour, and whether the engine is flat at the end.

python -m bench.soak [--minutes 30] [--json]

Reads, writes, writes with keys that are repeated, calls that a person approves, cancelled and refused ones, in both
protocol eras, over HTTP and stdio. Every `SAMPLE_S` seconds a look at the engine's resident memory, file descriptors,
asyncio tasks and the size of its write-ahead log. Exit code 1 where one of them grew from the second quarter to the
last, where a call ended otherwise than it should have, or where the engine was not the same process all along.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
from bench.contenders import (
    HOLDFAST,
    REPOSITORY,
    STDIO_DOWNSTREAM,
    Contender,
    Era,
    Transport,
    all_contenders,
    free_port,
    running,
    wait_listening,
)
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

MINUTES = 30.0
SAMPLE_S = 5.0
WORKERS = 8
CALL = "dev.holdfast/call"
KEY = "dev.holdfast/idempotencyKey"

WAYS: tuple[tuple[Transport, Era], ...] = (
    ("HTTP", "2026-07-28"),
    ("HTTP", "2025-11-25"),
    ("stdio", "2026-07-28"),
    ("stdio", "2025-11-25"),
)
KINDS = ("read", "write", "keyed", "parked", "refused", "cancelled")
WEIGHTS = (40, 30, 15, 5, 5, 5)

SLACK = {"resident_mb": 8.0, "descriptors": 16.0, "tasks": 32.0, "log_mb": 8.0}
"""What a figure may grow by without being said to grow: what the moment of a look changes."""
MOST_TIMES = 1.05


@dataclass(frozen=True, slots=True)
class Sample:
    """The engine at one moment. `at_s` counts from the beginning; `calls` is what was answered since the last."""

    at_s: float
    resident_mb: float
    descriptors: int
    tasks: int
    log_mb: float
    calls: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak came to."""

    minutes: float
    samples: tuple[Sample, ...]
    calls: dict[str, int]
    wrong: tuple[str, ...]

    def quarters(self, figure: str) -> tuple[float, float]:
        """The median of a figure in the second quarter and in the last; the first is for warming up."""
        values = [getattr(sample, figure) for sample in self.samples]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[quarter : 2 * quarter] or values), statistics.median(values[-quarter:])

    @property
    def grown(self) -> tuple[str, ...]:
        """The figures that are not flat."""
        found = []
        for figure, slack in SLACK.items():
            before, after = self.quarters(figure)
            if after > before * MOST_TIMES and after > before + slack:
                found.append(f"{figure}: {before:g} in the second quarter, {after:g} in the last")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether all is flat, and every call ended as it should have."""
        return not self.grown and not self.wrong

    def text(self) -> str:
        """The report for people, in Markdown."""
        total = sum(self.calls.values())
        lines = [
            f"{self.minutes:g} minutes, {total:,} calls ({total / self.minutes / 60:,.0f} a second): "
            + ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.calls.items())),
            "",
            "| | second quarter, median | last quarter, median | most |",
            "|---|---|---|---|",
        ]
        for figure in (*SLACK, "p99_ms"):
            before, after = self.quarters(figure)
            most = max(getattr(sample, figure) for sample in self.samples)
            lines.append(f"| {figure.replace('_', ' ')} | {before:.1f} | {after:.1f} | {most:.1f} |")
        lines += ["", *(f"not flat: {words}" for words in self.grown), *(f"wrong: {words}" for words in self.wrong)]
        return "\n".join([*lines, "soak: passed" if self.passed else "soak: failed"])

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**asdict(self), "grown": self.grown, "passed": self.passed}


class _Load:
    """Everything that is asked of the engine, and what came of it."""

    def __init__(self, contender: Contender, until: float) -> None:
        self.calls: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._contender = contender
        self._until = until
        self._latencies: list[float] = []
        self._numbers = iter(range(sys.maxsize))

    def latencies(self) -> list[float]:
        """The latencies since the last look, in seconds."""
        taken, self._latencies = self._latencies, []
        return taken

    async def run(self, transport: Transport, era: Era) -> None:
        """Clients of one way, each for about a minute, then another: sessions come and go too."""
        while time.monotonic() < self._until:
            end = min(self._until, time.monotonic() + random.uniform(30.0, 90.0))
            async with self._contender.client(transport, era) as client, asyncio.TaskGroup() as tasks:
                for _ in range(WORKERS):
                    tasks.create_task(self._worker(client, transport, end))

    async def _worker(self, client: Client, transport: Transport, end: float) -> None:
        while time.monotonic() < end and len(self.wrong) < 20:
            (kind,) = random.choices(KINDS, WEIGHTS)
            began = time.perf_counter()
            try:
                await self._one(client, transport, kind)
            except MCPError as error:
                self.wrong.append(f"{kind} over {transport}: {error}")
            self._latencies.append(time.perf_counter() - began)
            self.calls[kind] += 1

    async def _one(self, client: Client, transport: Transport, kind: str) -> None:
        number = next(self._numbers)
        arguments: dict[str, Any] = {"n": number, "customer": "c-1029", "tags": ["gold"]}
        tool = self._contender.tool("lookup" if kind == "read" else "record", transport)
        meta: Any = {KEY: f"soak-{number}"} if kind == "keyed" else {}
        if kind == "refused":
            arguments["nonsense"] = True
        if kind in ("parked", "cancelled"):
            arguments |= {"customer": "ask", "tags": [kind]}
        answer = await client.call_tool(tool, arguments, meta=meta)
        if kind == "keyed":
            again = await client.call_tool(tool, arguments, meta=meta)
            self._expect(kind, again.meta is not None and again.meta[CALL].get("replayed") is True, again)
        if kind == "cancelled":
            task = (answer.meta or {})[CALL]["id"]
            answer = await client.call_tool("holdfast__cancel_task", {"task_id": task})
        status = (answer.meta or {}).get(CALL, {}).get("status")
        wanted = {"parked": "waiting_for_approval", "refused": "refused", "cancelled": "cancelled"}.get(kind, "done")
        self._expect(kind, status == wanted, answer)

    def _expect(self, kind: str, fine: bool, answer: Any) -> None:
        if not fine:
            self.wrong.append(f"{kind}: {answer.meta} {answer.content[:1]}"[:500])


async def _approve(admin: Client, until: float) -> None:
    """Decide what waits, now one way and now the other."""
    while time.monotonic() < until:
        page = (await admin.call_tool("list_approvals", {"limit": 50})).structured_content or {}
        for approval in page["approvals"]:
            if approval["arguments"]["tags"] == ["cancelled"]:
                continue  # its requester withdraws it
            if random.random() < 0.5:
                await admin.call_tool("approve", {"approval_id": approval["id"]})
            else:
                await admin.call_tool("reject", {"approval_id": approval["id"], "reason": "not today"})
        await asyncio.sleep(1.0)


async def _soak(contender: Contender, token: str, minutes: float, progress: Callable[[str], None]) -> Soak:
    began = time.monotonic()
    until = began + minutes * 60
    load = _Load(contender, until)
    samples: list[Sample] = []
    admin_url = contender.url.replace("/mcp", "/admin/mcp")
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(streamable_http_client(admin_url, http_client=http), mode="2026-07-28", cache=None) as admin,
        asyncio.TaskGroup() as tasks,
    ):
        for transport, era in WAYS:
            tasks.create_task(load.run(transport, era))
        tasks.create_task(_approve(admin, until))
        while time.monotonic() < until:
            await asyncio.sleep(SAMPLE_S)
            samples.append(await _sample(contender, admin, load, time.monotonic() - began))
            progress(_line(samples[-1], load))
    return Soak(minutes, tuple(samples), dict(load.calls), tuple(load.wrong))


async def _sample(contender: Contender, admin: Client, load: _Load, at_s: float) -> Sample:
    status = (await admin.call_tool("engine_status", {})).structured_content or {}
    engine = status["engine"]
    if engine["pid"] != contender.pid:
        load.wrong.append(f"the engine is process {engine['pid']}, and began as {contender.pid}")
    logs = [path.stat().st_size for path in contender.folder.glob("**/state.db-wal")]
    latencies = sorted(load.latencies())
    return Sample(
        at_s=round(at_s, 1),
        resident_mb=round(engine["resident_bytes"] / 1e6, 1),
        descriptors=engine["descriptors"],
        tasks=engine["tasks"],
        log_mb=round(sum(logs) / 1e6, 1),
        calls=len(latencies),
        p99_ms=round(latencies[int(len(latencies) * 0.99)] * 1000, 1) if latencies else 0.0,
    )


def _line(sample: Sample, load: _Load) -> str:
    words = (
        f"{sample.at_s:6.0f} s: {sum(load.calls.values()):,} calls",
        f"{sample.calls / SAMPLE_S:,.0f}/s",
        f"p99 {sample.p99_ms:.0f} ms",
        f"{sample.resident_mb:.0f} MB",
        f"{sample.descriptors} descriptors",
        f"{sample.tasks} tasks",
        f"log {sample.log_mb:.1f} MB",
        f"{len(load.wrong)} wrong",
    )
    return ", ".join(words)


def soak(minutes: float, progress: Callable[[str], None]) -> Soak:
    """Start everything, and end it again."""
    with tempfile.TemporaryDirectory(prefix="hf-soak-") as name, ExitStack() as stack:
        (direct,) = stack.enter_context(all_contenders(Path(name), ()))
        folder = Path(name) / "e"
        folder.mkdir()
        contender, token = _engine(stack, folder, direct.url)
        return asyncio.run(_soak(contender, token, minutes, progress))


def _engine(stack: ExitStack, folder: Path, downstream_url: str) -> tuple[Contender, str]:
    stdio = {"command": STDIO_DOWNSTREAM[0], "args": STDIO_DOWNSTREAM[1:], "cwd": str(REPOSITORY)}
    asks = {"id": "ask", "match": {"tool": "*__record"}, "when": 'args.customer == "ask"', "effect": "require_approval"}
    config = folder / "holdfast.yaml"
    config.write_text(json.dumps({"mcpServers": {"bench": {"url": downstream_url}, "local": stdio}, "rules": [asks]}))
    serve: Sequence[str] = (str(HOLDFAST), "serve", str(config))
    port = free_port()
    process = stack.enter_context(running("engine", [*serve, "--http", f"127.0.0.1:{port}"], folder))
    wait_listening("engine", port, process, folder)
    (token,) = folder.glob("holdfast/*/admin.token")
    url = f"http://127.0.0.1:{port}/mcp"
    return Contender("soak", url, tuple(serve), folder, process.pid, "bench__", "local__"), token.read_text().strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    try:
        result = soak(options.minutes, lambda line: print(line, file=sys.stderr))
    except KeyboardInterrupt:
        return 130
    print(json.dumps(result.as_json(), indent=2) if options.json else result.text())
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
