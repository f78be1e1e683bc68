"""All planted bugs, and the search for the first seed that notices one."""

from dataclasses import dataclass

from simulation.mutants_of_lines import MUTANTS_OF_LINES
from simulation.mutants_of_load import MUTANTS_OF_LOAD
from simulation.mutants_of_rounds import MUTANTS_OF_ROUNDS
from simulation.mutants_of_the_pipeline import MUTANTS_OF_THE_PIPELINE
from simulation.mutants_of_the_store import MUTANTS_OF_THE_STORE
from simulation.planting import Mutant
from simulation.simulate import simulate
from simulation.verdict import Violation

MUTANTS: tuple[Mutant, ...] = (
    *MUTANTS_OF_THE_STORE,
    *MUTANTS_OF_THE_PIPELINE,
    *MUTANTS_OF_LOAD,
    *MUTANTS_OF_LINES,
    *MUTANTS_OF_ROUNDS,
)


@dataclass(frozen=True, slots=True)
class Caught:
    """The first seed whose run broke a promise under a mutant, and which."""

    mutant: str
    seed: int
    violation: Violation


def catch(mutant: Mutant, *, first: int, seeds: int) -> Caught | None:
    """Plant `mutant` and look for it with at most `seeds` seeds."""
    with mutant.planted():
        for seed in range(first, first + seeds):
            run = simulate(seed, changes=mutant.changes)
            if run.violations:
                return Caught(mutant.name, seed, run.violations[0])
    return None
