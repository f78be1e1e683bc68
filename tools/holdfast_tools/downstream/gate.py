"""Who may be sent to a downstream now: its bulkhead, its circuit breaker and its retry budget, kept together.

A call needs a place from before it is claimed until its attempt is over. Where none is free it waits in the queue,
which is the store's own, oldest first; a newcomer never overtakes who waits. Only newcomers are ever turned away: what
was admitted, approved or begun waits for as long as its deadline lets it.

Who has to wait for its turn in a line of calls needs no place yet, and keeps nobody else from one: it is only counted.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from holdfast_tools.downstream.attempt import Answered, Attempt, Lost
from holdfast_tools.downstream.breaker import Breaker, BreakerState, BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms, RetryBudget

LONGEST_RETRY_AFTER_S = 60
"""Nobody who is turned away is told to come back later than this."""

_WEIGHT_OF_LAST = 0.1
"""How much the last attempt counts in the usual length of one."""


@dataclass(frozen=True, slots=True)
class GateTerms:
    """`max_concurrency` attempts under way at once; `max_queue` newcomers wait for a place, as many for their turn."""

    max_concurrency: int
    max_queue: int
    breaker: BreakerTerms = field(default_factory=BreakerTerms)
    budget: BudgetTerms = field(default_factory=BudgetTerms)


@dataclass(frozen=True, slots=True)
class Waits:
    """The call may be admitted to the queue. `reason` says what it waits for."""

    reason: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The call is not to be admitted. `reason` is a clause for people; `retry_after_s` whole seconds, at least 1."""

    cause: Literal["overloaded", "breaker_open"]
    reason: str
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class GateStatus:
    """How it is, for people. `breaker_since` and `next_probe_at` are in seconds since the epoch."""

    breaker: BreakerState
    breaker_since: float | None
    next_probe_at: float | None
    failures: int
    reason: str | None
    under_way: int
    max_concurrency: int
    queued: int
    in_line: int
    max_queue: int
    retries_left: int


class Place:
    """One attempt's place. Give it back with `leave`; doing so again does nothing."""

    __slots__ = ("_gate", "_left", "entered_at", "is_probe", "number")

    def __init__(self, gate: "Gate", number: int, entered_at: float, *, is_probe: bool) -> None:
        self.number = number
        self.entered_at = entered_at
        self.is_probe = is_probe
        self._gate = gate
        self._left = False

    @property
    def may_send(self) -> bool:
        """Whether the breaker, which may have opened since, lets this attempt be sent."""
        return self.is_probe or self._gate.is_closed

    @property
    def others_wait(self) -> bool:
        """Whether anybody waits for a place."""
        return self._gate.queued > 0

    def leave(self, attempt: Attempt | None) -> None:
        """Give the place back. `attempt` is None where it was given up, and so tells nothing of the downstream."""
        if not self._left:
            self._left = True
            self._gate.left(self, attempt)


class Gate:
    """The gate of the downstream `name`. `clock` is a monotonic one, `wall_clock` says when things were for people."""

    def __init__(
        self,
        name: str,
        terms: GateTerms,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._terms = terms
        self._clock = clock
        self._wall_clock = wall_clock
        self._breaker = Breaker(terms.breaker)
        self._budget = RetryBudget.full(terms.budget, clock())
        self._waiting: set[str] = set()
        self._in_line: set[str] = set()
        self._under_way = 0
        self._entered = 0
        self._blamed_to = 0
        self._usual_s = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the breaker is closed."""
        return self._breaker.state == "closed"

    @property
    def is_full(self) -> bool:
        """Whether no place can be had now."""
        return self._under_way >= self._terms.max_concurrency or not self._breaker.passes(self._clock())

    @property
    def queued(self) -> int:
        """How many calls wait for a place."""
        return len(self._waiting)

    def ask(self, call_id: str, *, at_once: bool = True) -> Place | Waits | TurnedAway:
        """What to do with a newcomer. One that `Waits` counts as waiting until it is `begun` or `forgotten`.

        `at_once`: it could start now, were there a place.
        """
        now = self._clock()
        if not self._breaker.passes(now) or (self._waiting and not self.is_closed):
            return self._broken(now)
        if at_once and (place := self.take()) is not None:
            return place
        if len(self._waiting) < self._terms.max_queue:
            why = Waits(self._why_full())
            self._waiting.add(call_id)
            return why
        return TurnedAway("overloaded", self._why_full(), self._retry_after_s())

    def take(self) -> Place | None:
        """A place for a call that starts now or is asked for in another way; None where none is free."""
        return None if self._waiting or self.is_full else self._enter(self._clock())

    def begin(self, call_id: str) -> Place | None:
        """A place for a call that was admitted before; None where it has to wait. Offer them oldest first."""
        if self.is_full:
            return None
        self.forget(call_id)
        return self._enter(self._clock())

    def wait(self, call_id: str) -> Waits | TurnedAway | None:
        """An admitted call has to wait; what for, where that is news. Its place in the queue it has already."""
        if call_id in self._waiting:
            return None
        self._in_line.discard(call_id)
        now = self._clock()
        why = Waits(self._why_full()) if self._breaker.passes(now) else self._broken(now)
        self._waiting.add(call_id)
        return why

    def forget(self, call_id: str) -> None:
        """The call does not wait any more: it ended, or was not admitted."""
        self._waiting.discard(call_id)
        self._in_line.discard(call_id)

    def may_line_up(self, call_id: str) -> bool:
        """Whether a newcomer may wait for its turn, should it have to; then it counts until it is known not to."""
        if len(self._in_line) >= self._terms.max_queue:
            return False
        self._in_line.add(call_id)
        return True

    def line_up(self, call_id: str) -> None:
        """An admitted call waits for its turn, not for a place."""
        self._waiting.discard(call_id)
        self._in_line.add(call_id)

    def leave_line(self, call_id: str) -> None:
        """The call does not wait for its turn (any more)."""
        self._in_line.discard(call_id)

    def may_retry(self) -> bool:
        """Take one retry from the budget; False, and nothing is taken, where it is used up."""
        left = self._budget.retried(self._clock())
        if left is None:
            return False
        self._budget = left
        return True

    @property
    def why_no_retry(self) -> str:
        """Why `may_retry` said no."""
        terms = self._terms.budget
        return (
            f"it was not tried again, because the retry budget of {self._name!r} is used up ({terms.per_answer:.0%} of "
            f"what it answers and {terms.per_second:g} per second)"
        )

    @property
    def lines_full(self) -> TurnedAway:
        """Why a newcomer may not wait for its turn."""
        reason = (
            f"{len(self._in_line)} calls of the downstream {self._name!r} wait for those before them in their lines, "
            "and so would this one"
        )
        return TurnedAway("overloaded", reason, _whole_seconds(self._usual_s * len(self._in_line)))

    @property
    def why_shut(self) -> str:
        """Why nothing is sent while the breaker is open."""
        return self._broken(self._clock()).reason

    def left(self, place: Place, attempt: Attempt | None) -> None:
        """A place is free again; its attempt tells of the downstream."""
        now = self._clock()
        self._under_way -= 1
        match attempt:
            case Answered():
                self._breaker = self._breaker.answered(now, probe=place.is_probe)
                self._budget = self._budget.answered()
            case Lost(reason, timed_out):
                if timed_out or place.number > self._blamed_to:
                    self._breaker = self._breaker.lost(now, random.random(), reason, probe=place.is_probe)  # noqa: S311
                if not timed_out:
                    # All that were under way when a connection ended are lost by it: one event, one failure.
                    self._blamed_to = self._entered
            case _:
                if place.is_probe:
                    self._breaker = self._breaker.unsent(now)
                return
        self._usual_s += _WEIGHT_OF_LAST * (now - place.entered_at - self._usual_s)

    @property
    def status(self) -> GateStatus:
        """How it is now."""
        now = self._clock()
        breaker = self._breaker
        ahead_s = self._wall_clock() - now
        closed = breaker.state == "closed"
        return GateStatus(
            breaker=breaker.state,
            breaker_since=None if closed else breaker.since + ahead_s,
            next_probe_at=None if closed else breaker.next_probe_at + ahead_s,
            failures=breaker.failures,
            reason=breaker.reason if breaker.failures else None,
            under_way=self._under_way,
            max_concurrency=self._terms.max_concurrency,
            queued=len(self._waiting),
            in_line=len(self._in_line),
            max_queue=self._terms.max_queue,
            retries_left=int(self._budget.now(now).retries),
        )

    def _enter(self, now: float) -> Place:
        is_probe = not self.is_closed
        if is_probe:
            self._breaker = self._breaker.probing(now, random.random())  # noqa: S311 - jitter, not a secret
        self._under_way += 1
        self._entered += 1
        return Place(self, self._entered, now, is_probe=is_probe)

    def _broken(self, now: float) -> TurnedAway:
        after_s = _whole_seconds(self._breaker.wait_s(now))
        reason = (
            f"the downstream {self._name!r} is left alone, because {self._breaker.failures} answers in a row were lost "
            f"(last: {(self._breaker.reason or '').partition(chr(10))[0]}); it is tried again in {after_s} s"
        )
        return TurnedAway("breaker_open", reason, after_s)

    def _why_full(self) -> str:
        return (
            f"{self._under_way} of {self._terms.max_concurrency} places at the downstream {self._name!r} are taken, "
            f"and others wait: {len(self._waiting)}"
        )

    def _retry_after_s(self) -> int:
        """When a newcomer would find room, by how long attempts usually take."""
        return _whole_seconds(self._usual_s * (len(self._waiting) + 1) / self._terms.max_concurrency)


def _whole_seconds(span_s: float) -> int:
    return min(LONGEST_RETRY_AFTER_S, max(1, math.ceil(span_s)))
