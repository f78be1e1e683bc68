"""Calls over HTTP in the 2026 era, alternating between the contenders so that noise hits them all alike."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import anyio
from bench.contenders import Contender
from mcp import Client

CALL_TIMEOUT_S = 60.0
READ, WRITE = "read", "write"


@dataclass(slots=True)
class Series:
    """What one contender did with one kind of tool at one level of concurrency."""

    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """The nearest-rank percentile."""
        ordered = sorted(self.latencies_s)
        rank = max(0, -(-len(ordered) * percent // 100) - 1)
        return ordered[int(rank)] * 1000

    @property
    def calls_per_s(self) -> float:
        return len(self.latencies_s) / self.elapsed_s

    @property
    def cpu_ms_per_call(self) -> float:
        return self.cpu_s / len(self.latencies_s) * 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` times, each contender in turn is called for `burst_s` seconds, with each kind and concurrency."""

    rounds: int
    burst_s: float
    warm_up_s: float
    in_flight: tuple[int, ...] = (1, 32)


Key = tuple[str, str, int]
"""Contender, kind, in flight."""


async def measure(contenders: Sequence[Contender], plan: Plan) -> dict[Key, Series]:
    """Run the plan. A call that answers with an error ends it: `RuntimeError`."""
    results: dict[Key, Series] = {}
    numbers = itertools.count()
    for turn, in_flight, kind in itertools.product(range(plan.rounds), plan.in_flight, (READ, WRITE)):
        shift = turn % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            tool = contender.read_tool if kind == READ else contender.write_tool
            async with Client(contender.url, mode="2026-07-28", read_timeout_seconds=CALL_TIMEOUT_S) as client:
                await _burst(client, tool, plan.warm_up_s, in_flight, numbers)
                cpu_before = contender.cpu_s()
                began = time.perf_counter()
                latencies = await _burst(client, tool, plan.burst_s, in_flight, numbers)
                elapsed = time.perf_counter() - began
                cpu = contender.cpu_s() - cpu_before
            series = results.setdefault((contender.name, kind, in_flight), Series())
            series.latencies_s.extend(latencies)
            series.elapsed_s += elapsed
            series.cpu_s += cpu
    return results


async def _burst(client: Client, tool: str, burst_s: float, in_flight: int, numbers: Iterator[int]) -> list[float]:
    """Call for `burst_s` with `in_flight` workers, never twice the same; how long each call took, in seconds."""
    latencies: list[float] = []
    until = time.perf_counter() + burst_s

    async def worker() -> None:
        began = time.perf_counter()
        while began < until:
            answer = await client.call_tool(tool, {"n": next(numbers), "customer": "c-1029", "tags": ["gold", "eu"]})
            ended = time.perf_counter()
            latencies.append(ended - began)
            began = ended
            if answer.is_error:
                raise RuntimeError(f"{tool} answered with an error: {answer.content}")

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(worker)
    return latencies
