"""Calls in both eras, over HTTP and stdio, alternating between the contenders so that noise hits them all alike."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import anyio
from bench.contenders import Contender, Era, Transport
from mcp import Client

READ, WRITE = "read", "write"
TOOLS = {READ: "lookup", WRITE: "record"}


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
class Level:
    """How the contenders are called: over what, in which protocol era, with how many calls in flight."""

    transport: Transport
    era: Era
    in_flight: int


LEVELS = (
    *(Level("HTTP", "2026-07-28", in_flight) for in_flight in (1, 8, 32, 128, 256)),
    *(Level("HTTP", "2025-11-25", in_flight) for in_flight in (1, 32)),
    *(Level("stdio", era, in_flight) for era in ("2026-07-28", "2025-11-25") for in_flight in (1, 32)),
)

SLOW = frozenset({"fastmcp"})
MOST_FOR_SLOW = 32
"""A burst lasts until what is in flight is answered: at tens of milliseconds a call that is minutes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` times, each contender in turn is called for `burst_s` seconds, with each kind and at each level."""

    rounds: int
    burst_s: float
    warm_up_s: float
    levels: tuple[Level, ...] = LEVELS


Key = tuple[str, str, Level]
"""Contender, kind, level."""


async def measure(
    contenders: Sequence[Contender], plan: Plan, progress: Callable[[int, int], None] = lambda done, all_: None
) -> dict[Key, Series]:
    """Run the plan; `progress` hears of each round. A call that answers with an error ends it: `RuntimeError`."""
    results: dict[Key, Series] = {}
    numbers = itertools.count()
    for turn in range(plan.rounds):
        progress(turn, plan.rounds)
        for level, kind in itertools.product(plan.levels, (READ, WRITE)):
            shift = turn % len(contenders)
            for contender in (*contenders[shift:], *contenders[:shift]):
                if contender.name in SLOW and level.in_flight > MOST_FOR_SLOW:
                    continue
                series = results.setdefault((contender.name, kind, level), Series())
                await _measure_one(contender, level, kind, plan, numbers, series)
    return results


async def _measure_one(
    contender: Contender, level: Level, kind: str, plan: Plan, numbers: Iterator[int], series: Series
) -> None:
    tool = contender.tool(TOOLS[kind], level.transport)
    async with contender.client(level.transport, level.era) as client:
        await burst(client, tool, plan.warm_up_s, level.in_flight, numbers)
        cpu_before = contender.cpu_s()
        began = time.perf_counter()
        latencies = await burst(client, tool, plan.burst_s, level.in_flight, numbers)
        series.elapsed_s += time.perf_counter() - began
        series.cpu_s += contender.cpu_s() - cpu_before
    series.latencies_s.extend(latencies)


async def burst(client: Client, tool: str, burst_s: float, in_flight: int, numbers: Iterator[int]) -> list[float]:
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
