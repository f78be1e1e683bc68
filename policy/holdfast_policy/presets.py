"""What a preset says of a call that no rule matches."""

import hashlib
from dataclasses import dataclass

from holdfast_policy.annotations import Annotations
from holdfast_policy.values import Effect, Preset

ID_PREFIX = "preset:"
"""Ids that begin so are the presets' own."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a preset says, and why, as a clause about the tool.

    `would_ask`: allowed only because `observe` watches.
    """

    effect: Effect
    why: str
    would_ask: bool = False


def preset_id(preset: Preset) -> str:
    """The rule id under which a preset decides."""
    return ID_PREFIX + preset.value


def name_digest(name: str) -> str:
    """A digest for what asks without being a rule of the config: it never changes."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def ruling_of(preset: Preset, annotations: Annotations) -> Ruling:
    """Apply `preset` to a tool with these effective annotations."""
    match preset:
        case Preset.BALANCED:
            return _balanced(annotations)
        case Preset.STRICT:
            return _strict(annotations)
        case Preset.OBSERVE:
            ruling = _balanced(annotations)
            return Ruling(Effect.ALLOW, ruling.why, would_ask=ruling.effect is not Effect.ALLOW)


def _balanced(annotations: Annotations) -> Ruling:
    if annotations.read_only:
        return _READ_ONLY
    return _DESTRUCTIVE if annotations.destructive else _HARMLESS


def _strict(annotations: Annotations) -> Ruling:
    if annotations.read_only and "readOnlyHint" in annotations.marked:
        return _MARKED_READ_ONLY
    if not annotations.destructive and "destructiveHint" in annotations.marked:
        return _MARKED_HARMLESS
    return _UNMARKED


_READ_ONLY = Ruling(Effect.ALLOW, "it is read-only")
_HARMLESS = Ruling(Effect.ALLOW, "it destroys nothing")
_DESTRUCTIVE = Ruling(Effect.REQUIRE_APPROVAL, "it may change or destroy something and no rule allows it")
_MARKED_READ_ONLY = Ruling(Effect.ALLOW, "the operator marked it read-only")
_MARKED_HARMLESS = Ruling(Effect.ALLOW, "the operator marked it non-destructive")
_UNMARKED = Ruling(Effect.REQUIRE_APPROVAL, "the operator has not marked it harmless and no rule allows it")
