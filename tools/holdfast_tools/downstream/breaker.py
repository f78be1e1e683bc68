"""When a downstream that does not answer is left alone: the circuit breaker, as a value. Pure; the clock is passed in.

Closed, everything passes. After `failures_to_open` losses in a row (nothing was answered in between) it is open and
nothing passes. When its pause is over one call passes, as a probe, and it is half open: answered, the probe closes it;
lost, it opens it again for twice as long. A tool's error is an answer. (Nygard, "Release It!", "Circuit Breaker".)

What cannot be connected is no matter of the breaker: its owner tries again at growing intervals, and nothing is sent
meanwhile.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerTerms:
    """`first_pause_s` doubles with each probe that is lost, up to `longest_pause_s`."""

    failures_to_open: int = 5
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker at one moment; each method answers the next one. Times are seconds of one monotonic clock.

    `since` is when it came into its state. `drawn`, from 0 to 1, is the jitter: a pause lasts between half of its
    span and the whole.
    """

    terms: BreakerTerms = field(default_factory=BreakerTerms)
    state: BreakerState = "closed"
    since: float = 0.0
    failures: int = 0
    openings: int = 0
    next_probe_at: float = 0.0
    reason: str | None = None

    def passes(self, now: float) -> bool:
        """Whether a call may be sent now: any when closed; else one, as a probe, once the pause is over."""
        return self.state == "closed" or now >= self.next_probe_at

    def wait_s(self, now: float) -> float:
        """How long until a call may pass, in seconds; 0 where one may now."""
        return 0.0 if self.passes(now) else self.next_probe_at - now

    def probing(self, now: float, drawn: float) -> "Breaker":
        """A probe passes. Should no answer to it come for another pause, one more may."""
        since = self.since if self.state == "half_open" else now
        return replace(self, state="half_open", since=since, next_probe_at=now + self._pause_s(drawn))

    def answered(self, now: float, *, probe: bool) -> "Breaker":
        """An answer came. Unless it is closed, only that of a probe tells anything: others were sent before."""
        if self.state == "closed":
            return replace(self, failures=0, openings=0) if self.failures or self.openings else self
        return Breaker(self.terms, since=now) if probe else self

    def lost(self, now: float, drawn: float, reason: str, *, probe: bool) -> "Breaker":
        """An answer was lost, or did not come in time."""
        if self.state == "closed":
            failed = replace(self, failures=self.failures + 1, reason=reason)
            return failed._opened(now, drawn) if failed.failures >= self.terms.failures_to_open else failed
        return replace(self, reason=reason)._opened(now, drawn) if probe else self

    def unsent(self, now: float) -> "Breaker":
        """The probe told nothing, because it was not sent, or was given up: the next call may be one."""
        return replace(self, state="open", since=now, next_probe_at=now) if self.state == "half_open" else self

    def _opened(self, now: float, drawn: float) -> "Breaker":
        opened = replace(self, state="open", since=now, openings=self.openings + 1)
        return replace(opened, next_probe_at=now + opened._pause_s(drawn))

    def _pause_s(self, drawn: float) -> float:
        doubled = self.terms.first_pause_s * 2.0 ** min(max(self.openings - 1, 0), 32)
        return min(self.terms.longest_pause_s, doubled) * (0.5 + drawn / 2)
