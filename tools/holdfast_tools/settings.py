"""Settings with their defaults: of single tools, merged from all matching patterns, and of running calls at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

READ_TIMEOUT_S = 60.0
WRITE_TIMEOUT_S = 3600.0

MOST_UNDER_WAY = 512
"""So many calls may be under way at once, or as many as all downstreams together have places."""

TaskUse = Literal["never", "auto", "always", "required"]
"""When a client that speaks of tasks is answered with one: never; where the call outlasts `inline_wait` or is parked;
always; or always, and nobody else may call the tool."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Limits of running.

    `unreachable_s`: how long a call waits for a downstream that is being rebuilt. `answer_within_s`: how long the
    requester has to answer what a downstream asks.
    """

    lease_s: float = 30.0
    max_losses: int = 3
    max_under_way: int = MOST_UNDER_WAY
    unreachable_s: float = 5.0
    first_backoff_s: float = 0.2
    longest_backoff_s: float = 30.0
    answer_within_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Order:
    """Calls run one at a time: those with the same value at the JSON pointer `by`, or, where it is None, all."""

    by: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The settings of one tool. None means: by the tool's effective annotations, or the gateway's default."""

    name: str | None = None  # what clients call it, instead of server__tool
    annotations: Mapping[str, bool] = field(default_factory=dict)
    strict: bool = True  # unknown properties are refused where the schema does not say otherwise
    timeout_s: float | None = None  # of one attempt; 60 s for read-only tools, 1 h otherwise
    deadline_s: float | None = None  # within which a call must have been sent, from when it was admitted
    inline_wait_s: float | None = None  # how long a client waits before it is given a handle
    max_attempts: int = 1  # attempts after errors; lost answers and unsent attempts are counted apart
    dedupe: bool = True  # an unkeyed repeat joins the call it repeats
    join_window_s: float = 600.0
    key_argument: str | None = None  # this argument is the idempotency key
    forward_key: str | None = None  # the downstream honours the key when it gets it in this argument
    max_result_bytes: int | None = None  # a bigger result is given as a preview; None is the gateway's own bound
    check_output: bool = True  # results are held against the tool's output schema
    journal_strict: bool = False  # even a read is journaled before it is sent
    task: TaskUse = "auto"
    order: Order | None = None  # which calls run one after the other; None: none have to


@dataclass(frozen=True, slots=True)
class ToolPattern:
    """One entry of `tools:`: a glob on canonical names, and the fields of `ToolSettings` that it sets."""

    glob: str
    fields: Mapping[str, Any]

    @property
    def literal_characters(self) -> int:
        return sum(character not in "*?[]" for character in self.glob)


def settings_for(tool: str, patterns: Iterable[ToolPattern]) -> ToolSettings:
    """Merge every pattern that matches `tool`, fewest literal characters first; annotations merge key by key."""
    merged = ToolSettings()
    matching = sorted((p for p in patterns if fnmatchcase(tool, p.glob)), key=lambda p: p.literal_characters)
    for pattern in matching:
        fields = dict(pattern.fields)
        if "annotations" in fields:
            fields["annotations"] = {**merged.annotations, **fields["annotations"]}
        merged = replace(merged, **fields)
    return merged
