"""The product's own gate with somebody beside it who counts: what passes an open breaker, which retries are had."""

import math
from typing import TYPE_CHECKING

from simulation.ledger import Grant, Sending
from simulation.probes import Rare

from holdfast_tools.downstream.attempt import Answered, Attempt, Lost
from holdfast_tools.downstream.breaker import BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms
from holdfast_tools.downstream.gate import Gate, GateTerms, Place, TurnedAway, Waits

if TYPE_CHECKING:
    from simulation.world import World

_ROUNDING = 1e-6


class WatchedGate(Gate):
    """One engine's gate to one downstream. It decides by itself; what it decided is held against its terms."""

    def __init__(self, world: "World", process: int, name: str) -> None:
        plan = world.plan
        breaker = BreakerTerms(plan.losses_to_open, first_pause_s=plan.breaker_pause_s)
        budget = BudgetTerms(per_second=plan.retries_per_s, capacity=plan.retries)
        super().__init__(name, GateTerms(plan.places, plan.queue, breaker, budget), world.loop.time, world.clock)
        self._world = world
        self._process = process
        self._downstream = name
        self._first_pause_s = breaker.first_pause_s
        self._budget_terms = budget
        self._losses = 0
        self._last_entered = 0
        self._blamed = 0
        self._opened: int | None = None
        self._next_at = 0.0
        self._passed = 0
        self._sent_through = 0
        self._saved = budget.capacity
        self._saved_at = world.loop.time()

    def ask(self, call_id: str, *, at_once: bool = True) -> Place | Waits | TurnedAway:
        answer = super().ask(call_id, at_once=at_once)
        if isinstance(answer, TurnedAway):
            self._world.note(Rare.OVERLOADED if answer.cause == "overloaded" else Rare.BREAKER_OPEN)
        return answer

    def _enter(self, now: float) -> Place:
        place = super()._enter(now)
        self._last_entered = place.number
        if self._opened is not None:
            if now < self._next_at - _ROUNDING:
                self._world.broken(
                    "open-breaker-lets-through", f"{self._downstream}: {self._next_at - now:.2f} s early"
                )
            self._next_at = now + self._first_pause_s / 2
            self._passed += 1
        return place

    def left(self, place: Place, attempt: Attempt | None) -> None:
        super().left(place, attempt)
        now = self._world.loop.time()
        match attempt:
            case Answered():
                self._saved = min(self._budget_terms.capacity, self._saved + self._budget_terms.per_answer)
                if self._opened is None or place.is_probe:
                    self._losses, self._opened = 0, None
            case Lost(_, timed_out):
                counts = timed_out or place.number > self._blamed
                if not timed_out:
                    self._blamed = self._last_entered
                if self._opened is None:
                    self._losses += counts
                    if self._losses >= self._world.plan.losses_to_open:
                        self._world.note(Rare.BREAKER_OPENS)
                        self._opened, self._passed, self._sent_through = self._world.moment(), 0, 0
                        self._next_at = now + self._first_pause_s / 2
                elif place.is_probe and counts:
                    self._next_at = now + self._first_pause_s / 2
            case _ if place.is_probe:
                self._next_at = -math.inf

    def sent(self, sending: Sending, decided: int) -> None:
        """A request was written that its engine had `decided` to send at that moment."""
        if self._opened is not None and decided > self._opened:
            self._sent_through += 1
            self._world.note(Rare.PROBE_SENT)
            if self._sent_through > self._passed:
                self._world.broken(
                    "sent-through-an-open-breaker", f"{sending}: {self._losses} answers were lost before"
                )

    def may_retry(self) -> bool:
        granted = super().may_retry()
        if not granted:
            self._world.note(Rare.RETRY_REFUSED)
            return False
        now, terms = self._world.loop.time(), self._budget_terms
        self._saved = min(terms.capacity, self._saved + (now - self._saved_at) * terms.per_second) - 1.0
        self._saved_at = now
        if self._saved < -_ROUNDING:
            self._world.broken("retries-beyond-the-budget", f"{self._downstream} is {-self._saved:.2f} retries over")
        self._world.ledger.grants.append(Grant(self._process, self._downstream))
        return True
