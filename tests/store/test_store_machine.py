"""Whatever may happen to a store, in any order: it does what an independent model of it does, on every backend.

The examples are the same in every run, and few. For more, and others each time, name how many:

    HOLDFAST_EXAMPLES=5000 make test ARGS=tests/store/test_store_machine.py
"""

import os
from functools import partial

import pytest
from bugs_of_the_store import BUGS, OWN
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from simulation.planting import Mutant
from store_backends import BACKENDS
from store_machine import StoreMachine

from holdfast_store.model.errors import StoreError

EXAMPLES = int(os.environ.get("HOLDFAST_EXAMPLES", "0"))

QUIET = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
SHORT = settings(QUIET, max_examples=50, stateful_step_count=40, derandomize=True)
LONG = settings(QUIET, max_examples=max(EXAMPLES, 1), stateful_step_count=80)


@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_store_does_what_the_model_does(backend: str) -> None:
    run_state_machine_as_test(partial(StoreMachine, BACKENDS[backend]), settings=LONG if EXAMPLES else SHORT)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS if EXAMPLES else OWN, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_machine_finds_a_planted_bug(bug: Mutant) -> None:
    search = settings(QUIET, max_examples=300, stateful_step_count=40, derandomize=True, phases=(Phase.generate,))
    with bug.planted(), pytest.raises((AssertionError, StoreError)):
        run_state_machine_as_test(partial(StoreMachine, BACKENDS["sqlite-inline"]), settings=search)
