"""The short form of the simulation: what is always run. `simulation.run` goes through any number of seeds."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from simulation.mutants import MUTANTS, catch
from simulation.planting import Mutant
from simulation.probes import Coverage, Rare
from simulation.run import replay_command
from simulation.simulate import Run, simulate

SEEDS = 500
SEEDS_PER_TEST = 50
SEEDS_PER_MUTANT = 600
REPLAYED = (2, 12, 75)

_TRACE = """
import hashlib
from simulation.simulate import simulate
for seed in {seeds}:
    print(hashlib.sha256("\\n".join(simulate(seed, traced=True).trace).encode()).hexdigest())
"""


@cache
def _runs(first: int) -> tuple[Run, ...]:
    return tuple(simulate(seed) for seed in range(first, first + SEEDS_PER_TEST))


@pytest.mark.parametrize("first", range(1, SEEDS + 1, SEEDS_PER_TEST))
def test_every_promise_is_kept(first: int) -> None:
    for run in _runs(first):
        assert not run.violations, f"{run.violations[0]}\nreplay it with: {replay_command(run.seed)}"


def test_every_transition_is_taken_and_every_fault_happens() -> None:
    coverage = Coverage()
    for first in range(1, SEEDS + 1, SEEDS_PER_TEST):
        for run in _runs(first):
            coverage.add(run.events, run.rows)
    print("\n".join(coverage.lines()))
    assert not coverage.missing


def test_what_is_counted_is_what_there_is() -> None:
    runs = [run for first in range(1, SEEDS + 1, SEEDS_PER_TEST) for run in _runs(first)]
    assert {event for run in runs for event in run.events} <= {event.value for event in Rare}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_bug_is_noticed(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    caught = catch(mutant, first=1, seeds=SEEDS_PER_MUTANT)
    assert caught is not None, f"{mutant.name}: {SEEDS_PER_MUTANT} seeds saw nothing wrong"
    record_property("seed", caught.seed)
    print(f"{mutant.name}: seed {caught.seed}, {caught.violation.rule}")


def test_at_least_a_dozen_bugs_are_planted() -> None:
    assert len(MUTANTS) >= 12
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    stories = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        told = subprocess.run(
            [sys.executable, "-c", _TRACE.format(seeds=REPLAYED)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        stories.add(told.stdout)
    assert len(stories) == 1


def test_a_run_leaves_the_real_clock_and_the_real_disk_alone() -> None:
    runs = [simulate(seed) for seed in REPLAYED]
    assert all(run.virtual_s > 5 * run.real_s for run in runs)
