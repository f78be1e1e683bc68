"""What the config says of single tools: settings with defaults, merged from all matching patterns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

READ_TIMEOUT_S = 60.0
WRITE_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The settings of one tool. None means: by the tool's effective annotations, or the gateway's default."""

    annotations: Mapping[str, bool] = field(default_factory=dict)
    strict: bool = True  # unknown properties are refused where the schema does not say otherwise
    timeout_s: float | None = None  # of one attempt; 60 s for read-only tools, 1 h otherwise
    inline_wait_s: float | None = None  # how long a client waits before it is given a handle
    max_attempts: int = 1  # attempts after errors; lost answers and unsent attempts are counted apart
    dedupe: bool = True  # an unkeyed repeat joins the call it repeats
    join_window_s: float = 600.0
    key_argument: str | None = None  # this argument is the idempotency key
    forward_key: str | None = None  # the downstream honours the key when it gets it in this argument
    journal_strict: bool = False  # even a read is journaled before it is sent


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
