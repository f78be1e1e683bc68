"""The figures of a storm, for people and as JSON."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("engine", "downstream", "client", "shim")


@dataclass
class Report:
    """What happened, and what should not have: `broken` holds a sentence for every kind of broken promise.

    `lost`: acknowledged and gone. `hidden`: an effect began, and its call neither has its outcome nor is in doubt.
    `invented`: done, and nothing happened. `ignored`: rejected, and not failed. `forged`: a state that its journal does
    not have. `unjustified`: in doubt, and not claimed at any kill.
    """

    kills: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    calls: int = 0
    answers: int = 0
    cut: int = 0
    reconnects: int = 0
    effects: int = 0
    verdicts: int = 0
    cancelled: int = 0
    in_doubt: int = 0
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    terminal_left: int = 0
    hidden: int = 0
    invented: int = 0
    ignored: int = 0
    forged: int = 0
    unjustified: int = 0
    unforeseen: int = 0
    recovery_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Take in the figures of another house."""
        for name, value in vars(other).items():
            if name == "recovery_s":
                for kind, spans in other.recovery_s.items():
                    self.recovery_s[kind].extend(spans)
            else:
                setattr(self, name, getattr(self, name) + value)

    def figures(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "kills": {"all": self.kills.total(), **{kind: self.kills[kind] for kind in KINDS}},
            "load": {
                "requests": self.requests,
                "calls_stored": self.calls,
                "effects": self.effects,
                "answers": self.answers,
                "requests_cut_by_a_kill": self.cut,
                "reconnections": self.reconnects,
                "verdicts": self.verdicts,
                "cancelled": self.cancelled,
            },
            "in_doubt": self.in_doubt,
            "must_be_zero": {
                "acknowledged_and_lost": self.lost,
                "effects_twice": self.duplicated,
                "stuck": self.stuck,
                "terminal_state_left": self.terminal_left,
                "effect_began_and_call_says_otherwise": self.hidden,
                "done_without_effect": self.invented,
                "rejected_and_not_failed": self.ignored,
                "state_unlike_the_journal": self.forged,
                "in_doubt_without_a_kill": self.unjustified,
                "unforeseen_errors": self.unforeseen,
            },
            "serving_again": {kind: _spread(spans) for kind, spans in sorted(self.recovery_s.items())},
            "broken": self.broken,
        }

    def text(self) -> str:
        """The figures for people, then the verdict."""
        figures = self.figures()
        lines = [_row("kills", figures["kills"])]
        lines.extend(_row(name, value) for name, value in figures["load"].items())
        lines.append(_row("in_doubt", self.in_doubt))
        lines.append("must be zero:")
        lines.extend("  " + _row(name, value) for name, value in figures["must_be_zero"].items())
        lines.extend(_row(f"{kind}_back_after", spread) for kind, spread in figures["serving_again"].items())
        return "\n".join([*lines, *(f"BROKEN: {sentence}" for sentence in self.broken or ["nothing"])])


def _row(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{key.replace('_', ' ')} {part}" for key, part in value.items())
    return f"{name.replace('_', ' '):<40}{value}"


def _spread(spans: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile (nearest rank) and longest, in seconds."""
    ordered = sorted(spans)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return {
        "measured": len(ordered),
        "median_s": round(statistics.median(ordered), 3),
        "p95_s": round(p95, 3),
        "longest_s": round(ordered[-1], 3),
    }
