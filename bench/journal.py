"""What a long past costs: calls with a journal of a million calls beside calls with an empty one, in one run.

python -m bench.journal [--calls 1000000]

Exit code 1 where the p99 of writes is more than 1.25 times that with an empty journal.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
from bench.commits import new_call
from bench.contenders import HOLDFAST, Contender, all_contenders, free_port, holdfast_config, running, wait_listening
from bench.load import READ, TOOLS, WRITE, Series, burst

from holdfast_store.contract import Record
from holdfast_store.model.values import Outcome, OutcomeKind
from holdfast_store.open import open_store

CALLS = 1_000_000
BATCH = 1_000
ROUNDS = 10
BURST_S = 1.0
WARM_UP_S = 0.3
IN_FLIGHT = (1, 32)
MOST_TIMES = 1.25


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of call at one level: milliseconds with the long journal, and how many times those with an empty one."""

    kind: str
    in_flight: int
    p50_ms: float
    p99_ms: float
    p50_times: float
    p99_times: float


@dataclass(frozen=True, slots=True)
class LongJournal:
    """`calls` in the journal, in a file of `megabytes`, and what calls then cost."""

    calls: int
    megabytes: float
    compared: tuple[Compared, ...]

    @property
    def within_bounds(self) -> bool:
        """Whether the p99 of every write is what was promised."""
        return all(row.p99_times <= MOST_TIMES for row in self.compared if row.kind == WRITE)

    def text(self) -> str:
        """The figures for people."""
        lines = [f"a journal of {self.calls:,} calls ({self.megabytes:,.0f} MB) against an empty one:"]
        lines += [
            f"  {row.kind}, {row.in_flight} in flight: p50 {row.p50_ms:.2f} ms, {row.p50_times:.2f}x;"
            f" p99 {row.p99_ms:.2f} ms, {row.p99_times:.2f}x"
            for row in self.compared
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The figures for programs."""
        return asdict(self)


def measure_journal(folder: Path, downstream_url: str, calls: int, progress: Callable[[str], None]) -> LongJournal:
    """Fill a store in `folder` with `calls` calls, and time calls of its engine and of one with an empty store."""
    folders = {name: folder / name for name in ("long", "empty")}
    for place in folders.values():
        place.mkdir()
    store = folders["long"] / "state.db"
    anyio.run(_fill, store, calls, progress)
    with ExitStack() as stack:
        contenders = [stack.enter_context(_engine(place, downstream_url)) for place in folders.values()]
        series = anyio.run(_measure, contenders, progress)
    rows = []
    for kind, in_flight in itertools.product((READ, WRITE), IN_FLIGHT):
        long, empty = (series[name, kind, in_flight] for name in folders)
        times = {p: round(long.percentile_ms(p) / empty.percentile_ms(p), 2) for p in (50, 99)}
        in_ms = {p: round(long.percentile_ms(p), 3) for p in (50, 99)}
        rows.append(Compared(kind, in_flight, in_ms[50], in_ms[99], times[50], times[99]))
    return LongJournal(calls, round(store.stat().st_size / 1e6, 1), tuple(rows))


@contextmanager
def _engine(folder: Path, downstream_url: str) -> Iterator[Contender]:
    """An engine on the store `state.db` in `folder`, while the block lasts."""
    serve = (str(HOLDFAST), "serve", str(holdfast_config(folder, downstream_url, folder / "state.db")))
    port = free_port()
    with running("engine", [*serve, "--http", f"127.0.0.1:{port}"], folder) as process:
        wait_listening("engine", port, process, folder)
        yield Contender(folder.name, f"http://127.0.0.1:{port}/mcp", serve, folder, process.pid, "bench__", "local__")


async def _fill(path: Path, calls: int, progress: Callable[[str], None]) -> None:
    outcome = Outcome(OutcomeKind.RESULT, {"content": [{"type": "text", "text": "recorded"}]})
    store = await open_store(f"sqlite://{path}")
    try:
        for first in range(0, calls, BATCH):
            if first % (calls // 4 or 1) < BATCH:
                progress(f"a journal of {first:,} of {calls:,} calls ...")
            batch = range(first, min(calls, first + BATCH))
            await store.commit([Record(new_call(number), outcome, took_s=0.001) for number in batch])
    finally:
        await store.close()


async def _measure(
    contenders: Sequence[Contender], progress: Callable[[str], None]
) -> dict[tuple[str, str, int], Series]:
    results: dict[tuple[str, str, int], Series] = {}
    numbers = itertools.count()
    for turn in range(ROUNDS):
        progress(f"calls, round {turn + 1} of {ROUNDS} ...")
        for kind, in_flight in itertools.product((READ, WRITE), IN_FLIGHT):
            for contender in contenders if turn % 2 else reversed(contenders):
                tool = contender.tool(TOOLS[kind], "HTTP")
                series = results.setdefault((contender.name, kind, in_flight), Series())
                async with contender.client("HTTP", "2026-07-28") as client:
                    await burst(client, tool, WARM_UP_S, in_flight, numbers)
                    series.latencies_s.extend(await burst(client, tool, BURST_S, in_flight, numbers))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.journal", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hf-bench-") as name, all_contenders(Path(name), ()) as (direct,):
        place = Path(name) / "journal"
        place.mkdir()
        measured = measure_journal(place, direct.url, options.calls, lambda text: print(text, file=sys.stderr))
    print(measured.text())
    return 0 if measured.within_bounds else 1


if __name__ == "__main__":
    sys.exit(main())
