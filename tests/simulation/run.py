"""Simulate many seeds, or replay one.

    python -m simulation.run [--seeds N] [--first S] [--jobs J] [--json]
    python -m simulation.run --seed S --trace [--mutant NAME]
    python -m simulation.run --mutants [--seeds N]

Run it from the repository with `tests` on the path: `PYTHONPATH=tests`. Exit code 1 where a promise was broken, or,
with `--mutants`, where a planted bug went unnoticed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

from simulation.mutants import MUTANTS, catch
from simulation.planting import Mutant
from simulation.simulate import Run, simulate

_CHUNK = 20


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

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.calls += run.calls
        self.effects += run.effects
        self.crashes += run.crashes
        self.doubts += run.doubts
        self.virtual_s += run.virtual_s
        if run.violations:
            violations = [str(violation) for violation in run.violations]
            self.failures.append({"seed": run.seed, "violations": violations, "replay": replay_command(run.seed)})

    def as_json(self) -> dict[str, object]:
        rates = {
            "seeds_per_s": round(self.seeds / self.real_s, 1),
            "times_real": round(self.virtual_s / self.real_s),
        }
        return {**asdict(self), **rates, "passed": not self.failures}


def replay_command(seed: int, mutant: str | None = None) -> str:
    """What to type to see the story of a seed."""
    planted = f" --mutant '{mutant}'" if mutant is not None else ""
    return f"PYTHONPATH=tests .venv/bin/python -m simulation.run --seed {seed} --trace{planted}"


def runs(first: int, seeds: int, jobs: int) -> Iterator[Run]:
    """The runs of that many seeds, in order, by `jobs` processes."""
    wanted = range(first, first + seeds)
    if jobs == 1:
        yield from map(simulate, wanted)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(simulate, wanted, chunksize=_CHUNK)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.mutants:
        return _try_mutants(options)
    if options.seed is not None:
        return _replay(options)
    report = Report(options.first)
    began = time.monotonic()
    for run in runs(options.first, options.seeds, options.jobs):
        report.add(run)
        if run.violations and not options.json:
            print(f"seed {run.seed}: {run.violations[0]}\n    {replay_command(run.seed)}", flush=True)
    report.real_s = time.monotonic() - began
    print(json.dumps(report.as_json(), indent=2) if options.json else _summary(report))
    return 1 if report.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
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
    for mutant in MUTANTS:
        caught = catch(mutant, first=options.first, seeds=options.seeds)
        found[mutant.name] = None if caught is None else caught.seed
        if not options.json:
            seen = "NOT NOTICED" if caught is None else f"seed {caught.seed}: {caught.violation.rule}"
            print(f"{mutant.name:<40} {seen}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))
    return 1 if None in found.values() else 0


def _summary(report: Report) -> str:
    shown = report.as_json()
    return (
        f"{report.seeds} seeds in {report.real_s:.1f} s ({shown['seeds_per_s']} a second, "
        f"{shown['times_real']:,} times real time): {report.calls} calls, {report.effects} effects, "
        f"{report.crashes} crashes, {report.doubts} left in doubt; {len(report.failures)} failed"
    )


if __name__ == "__main__":
    sys.exit(main())
