"""Simulate many seeds, or replay one.

    python -m simulation.run [--seeds N] [--first S] [--jobs J] [--json]
    python -m simulation.run --seed S --trace [--mutant NAME]
    python -m simulation.run --mutants [--seeds N] [--jobs J]

Run it from the repository with `tests` on the path: `PYTHONPATH=tests`. Exit code 1 where a promise was broken, or,
with `--mutants`, where a planted bug went unnoticed; 130 after Ctrl-C, with the summary of what was done by then.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from simulation.mutants import MUTANTS, Caught, catch
from simulation.planting import Mutant
from simulation.probes import Coverage
from simulation.simulate import Run, simulate

_CHUNK = 20
_TOLD_EVERY_S = 10.0
_INTERRUPTED = 130


@dataclass(slots=True)
class Report:
    """What came of all seeds together."""

    first: int
    seeds: int = 0
    calls: int = 0
    effects: int = 0
    crashes: int = 0
    doubts: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    failures: list[dict[str, object]] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.calls += run.calls
        self.effects += run.effects
        self.crashes += run.crashes
        self.doubts += run.doubts
        self.virtual_s += run.virtual_s
        self.coverage.add(run.events, run.rows)
        if run.violations:
            violations = [str(violation) for violation in run.violations]
            self.failures.append({"seed": run.seed, "violations": violations, "replay": replay_command(run.seed)})

    def as_json(self) -> dict[str, object]:
        rates = {
            "seeds_per_s": round(self.seeds / self.real_s, 1),
            "times_real": round(self.virtual_s / self.real_s),
        }
        figures = {name: getattr(self, name) for name in _FIGURES}
        return {**figures, **rates, "coverage": asdict(self.coverage), "passed": not self.failures}


_FIGURES = ("first", "seeds", "calls", "effects", "crashes", "doubts", "virtual_s", "real_s", "failures")


def replay_command(seed: int, mutant: str | None = None) -> str:
    """What to type to see the story of a seed."""
    planted = f" --mutant '{mutant}'" if mutant is not None else ""
    return f"PYTHONPATH=tests .venv/bin/python -m simulation.run --seed {seed} --trace{planted}"


def runs(first: int, seeds: int, jobs: int) -> Iterator[Run]:
    """The runs of that many seeds, in order, by `jobs` processes. Left early, it waits for none that has not begun."""
    wanted = range(first, first + seeds)
    if jobs == 1:
        yield from map(simulate, wanted)
        return
    with _processes(jobs) as pool:
        chunks = [pool.submit(_simulate_all, wanted[at : at + _CHUNK]) for at in range(0, seeds, _CHUNK)]
        try:
            for chunk in chunks:
                yield from chunk.result()
        finally:
            _drop(chunks)


def _simulate_all(seeds: Iterable[int]) -> list[Run]:
    return [simulate(seed) for seed in seeds]


def _processes(jobs: int) -> ProcessPoolExecutor:
    """Processes that leave Ctrl-C to this one."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))


def _drop(work: Sequence[Future[Any]]) -> None:
    for each in work:
        each.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        if options.mutants:
            return _try_mutants(options)
        if options.seed is not None:
            return _replay(options)
        return _simulate(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _simulate(options: argparse.Namespace) -> int:
    report = Report(options.first)
    began = told = time.monotonic()
    interrupted = False
    try:
        for run in runs(options.first, options.seeds, options.jobs):
            report.add(run)
            report.real_s = time.monotonic() - began
            if run.violations and not options.json:
                print(f"seed {run.seed}: {run.violations[0]}\n    {replay_command(run.seed)}", flush=True)
            if time.monotonic() - told > _TOLD_EVERY_S:
                told = time.monotonic()
                print(_progress(report, options.seeds), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if report.seeds:
        print(json.dumps(report.as_json(), indent=2) if options.json else _summary(report))
    if interrupted:
        print(f"interrupted after {report.seeds} of {options.seeds} seeds", file=sys.stderr)
        return _INTERRUPTED
    return 1 if report.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; as many as there are cores")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell what happens")
    parser.add_argument("--mutant", help="with --seed: plant this bug first")
    parser.add_argument("--mutants", action="store_true", help="look for the first seed that notices each planted bug")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    return parser.parse_args(arguments)


def _replay(options: argparse.Namespace) -> int:
    mutant = _mutant(options.mutant) if options.mutant is not None else None
    with mutant.planted() if mutant is not None else nullcontext():
        run = simulate(options.seed, changes=mutant.changes if mutant is not None else (), traced=options.trace)
    for line in run.trace:
        print(line)
    print(run.plan)
    for violation in run.violations:
        print(violation)
    print("broken" if run.violations else "every promise was kept")
    return 1 if run.violations else 0


def _mutant(name: str) -> Mutant:
    for mutant in MUTANTS:
        if mutant.name == name:
            return mutant
    raise SystemExit(f"there is no mutant {name!r}; these there are: {', '.join(each.name for each in MUTANTS)}")


def _try_mutants(options: argparse.Namespace) -> int:
    found = {}
    for name, caught in _caught(options):
        found[name] = None if caught is None else caught.seed
        if not options.json:
            seen = "NOT NOTICED" if caught is None else f"seed {caught.seed}: {caught.violation.rule}"
            print(f"{name:<52} {seen}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))
    return 1 if None in found.values() else 0


def _caught(options: argparse.Namespace) -> Iterator[tuple[str, Caught | None]]:
    """Each mutant's name, and what caught it."""
    with _processes(options.jobs) as pool:
        looks = [pool.submit(_catch, mutant.name, options.first, options.seeds) for mutant in MUTANTS]
        try:
            for mutant, look in zip(MUTANTS, looks, strict=True):
                yield mutant.name, look.result()
        finally:
            _drop(looks)


def _catch(name: str, first: int, seeds: int) -> Caught | None:
    return catch(_mutant(name), first=first, seeds=seeds)


def _progress(report: Report, seeds: int) -> str:
    left_s = (seeds - report.seeds) * report.real_s / report.seeds
    failed = f", {len(report.failures)} failed" if report.failures else ""
    return f"{report.seeds} of {seeds} seeds, {report.seeds / report.real_s:.1f} a second, {left_s:.0f} s left{failed}"


def _summary(report: Report) -> str:
    shown = report.as_json()
    missing = report.coverage.missing
    return "\n".join(
        (
            "What the runs came through:",
            *report.coverage.lines(),
            f"Never: {'; '.join(missing)}" if missing else "Nothing of that is missing.",
            f"{report.seeds} seeds in {report.real_s:.1f} s ({shown['seeds_per_s']} a second, "
            f"{shown['times_real']:,} times real time): {report.calls} calls, {report.effects} effects, "
            f"{report.crashes} crashes, {report.doubts} left in doubt; {len(report.failures)} failed",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
