"""How many retries a downstream is given: a token bucket, as a value. Pure; the clock is passed in.

Retries multiply the load on what is in trouble. So they are bounded for all calls of a downstream together: every
answer pays in a tenth of a retry, a little more comes with time, and what is saved is bounded. In the manner of
Finagle's RetryBudget and of gRPC's retry throttling (gRFC A6).
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """`per_answer` retries are paid in by each answer, `per_second` by time; at most `capacity` are saved."""

    per_answer: float = 0.1
    per_second: float = 2.0
    capacity: float = 200.0


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """A budget at one moment (`at`, seconds of one monotonic clock): `retries` are left. It begins full."""

    terms: BudgetTerms
    at: float
    retries: float

    @classmethod
    def full(cls, terms: BudgetTerms, now: float) -> "RetryBudget":
        """Nothing was spent yet."""
        return cls(terms, now, terms.capacity)

    def now(self, now: float) -> "RetryBudget":
        """With what time has paid in since."""
        earned = max(0.0, now - self.at) * self.terms.per_second
        return replace(self, at=max(self.at, now), retries=min(self.terms.capacity, self.retries + earned))

    def answered(self) -> "RetryBudget":
        """An attempt was answered, be it with an error."""
        if self.retries >= self.terms.capacity:
            return self
        return replace(self, retries=min(self.terms.capacity, self.retries + self.terms.per_answer))

    def retried(self, now: float) -> "RetryBudget | None":
        """One retry less; None where none is left."""
        earned = self.now(now)
        return replace(earned, retries=earned.retries - 1.0) if earned.retries >= 1.0 else None
