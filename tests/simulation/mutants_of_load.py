"""Bugs to plant where load, time and identity decide whether anything is sent: gate, breaker, budget, deadline."""

import math
from collections.abc import Mapping
from dataclasses import replace

from simulation.mutants_of_the_store import applier
from simulation.planting import Mutant, Patch

from holdfast_store.contract import Expire, Swept
from holdfast_store.model.values import Call
from holdfast_tools import attempts, claims, conclusions
from holdfast_tools.downstream.breaker import Breaker
from holdfast_tools.downstream.budget import RetryBudget
from holdfast_tools.downstream.gate import Gate
from holdfast_tools.downstream.owner import Downstream


def a_gate_without_a_limit() -> tuple[Patch, ...]:
    return ((Gate, "is_full", property(lambda self: not self._breaker.passes(self._clock()))),)


def a_breaker_that_never_opens() -> tuple[Patch, ...]:
    return ((Breaker, "_opened", lambda self, now, drawn: self),)


def an_open_breaker_probes_with_everybody() -> tuple[Patch, ...]:
    return ((Breaker, "passes", lambda self, now: True),)


def a_loss_counts_as_an_answer() -> tuple[Patch, ...]:
    answered = Breaker.answered

    def lost(self: Breaker, now: float, drawn: float, reason: str, *, probe: bool) -> Breaker:
        return answered(self, now, probe=probe)

    return ((Breaker, "lost", lost),)


def the_retry_budget_is_ignored() -> tuple[Patch, ...]:
    return ((conclusions.Conclusions, "_over_budget", lambda self, call: None),)


def a_retry_budget_without_a_bottom() -> tuple[Patch, ...]:
    def retried(self: RetryBudget, now: float) -> RetryBudget:
        return replace(self.now(now), retries=self.retries - 1.0)

    return ((RetryBudget, "retried", retried),)


def the_deadline_is_not_looked_at_before_dispatch() -> tuple[Patch, ...]:
    return ((attempts, "_send_by", lambda call, held: math.inf),)


def nothing_runs_out_of_time() -> tuple[Patch, ...]:
    return (applier(Expire, lambda tx, write: Swept(())),)


def another_downstream_runs_the_call() -> tuple[Patch, ...]:
    def any_of_that_name(call: Call, downstreams: Mapping[str, Downstream]) -> Downstream | None:
        return downstreams.get(call.downstream)

    return (claims, "own_downstream", any_of_that_name), (attempts, "own_downstream", any_of_that_name)


MUTANTS_OF_LOAD = (
    Mutant("a gate without a limit", a_gate_without_a_limit),
    Mutant("a breaker that never opens", a_breaker_that_never_opens),
    Mutant("an open breaker probes with everybody", an_open_breaker_probes_with_everybody),
    Mutant("a loss counts as an answer", a_loss_counts_as_an_answer),
    Mutant("the retry budget is ignored", the_retry_budget_is_ignored),
    Mutant("a retry budget without a bottom", a_retry_budget_without_a_bottom),
    Mutant("the deadline is not looked at before dispatch", the_deadline_is_not_looked_at_before_dispatch),
    Mutant("nothing runs out of time", nothing_runs_out_of_time),
    Mutant("another downstream runs the call", another_downstream_runs_the_call),
)
