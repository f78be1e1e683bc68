"""The short form of the simulation: what is always run. `simulation.run` goes through any number of seeds."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from simulation.mutants import MUTANTS, catch
from simulation.planting import Mutant
from simulation.run import replay_command
from simulation.simulate import simulate

SEEDS = 300
SEEDS_PER_TEST = 50
SEEDS_PER_MUTANT = 600
REPLAYED = (2, 12, 75)

_TRACE = """
import hashlib
from simulation.simulate import simulate
for seed in {seeds}:
    print(hashlib.sha256("\\n".join(simulate(seed, traced=True).trace).encode()).hexdigest())
"""


@pytest.mark.parametrize("first", range(1, SEEDS + 1, SEEDS_PER_TEST))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run = simulate(seed)
        assert not run.violations, f"{run.violations[0]}\nreplay it with: {replay_command(seed)}"


@pytest.mark.timeout(300)
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
