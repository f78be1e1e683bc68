"""What a tool is taken to be: the operator's word, else the server's hint where it is trusted, else the worst.

The names and defaults are those of MCP's ToolAnnotations (specification 2026-07-28, schema `ToolAnnotations`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")

_FIELDS = dict(zip(HINTS, ("read_only", "destructive", "idempotent", "open_world"), strict=True))

DEFAULT_TRUST: frozenset[tuple[str, bool]] = frozenset({("readOnlyHint", True), ("destructiveHint", False)})
"""Which hints of a server are believed where the config says nothing: it may call its tool harmless, pinned and
shown to the operator; that a repeat is harmless is believed only on the operator's word."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """Effective annotations. `marked` holds the hints that the operator set: `strict` allows nothing else."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    marked: frozenset[str] = frozenset()

    @property
    def retry_safe(self) -> bool:
        """Whether an attempt whose answer was lost may be sent again."""
        return self.read_only or self.idempotent

    def hint(self, name: str) -> bool:
        """The effective value of a hint by its name in MCP. Raises `KeyError` for a name that is none of `HINTS`."""
        return bool(getattr(self, _FIELDS[name]))


def effective(
    override: Mapping[str, bool], hints: Mapping[str, Any] | None, trusted: frozenset[str] | None
) -> Annotations:
    """Combine the operator's `override`, the server's `hints` and which of them are trusted.

    `trusted` None means `DEFAULT_TRUST`; otherwise it names the hints whose every boolean value is believed. A tool
    that the operator calls destructive is not read-only on the server's word.
    """

    def value(hint: str, default: bool) -> bool:
        if hint in override:
            return override[hint]
        claimed = (hints or {}).get(hint)
        if not isinstance(claimed, bool):
            return default
        believed = hint in trusted if trusted is not None else (hint, claimed) in DEFAULT_TRUST
        return claimed if believed else default

    read_only = value("readOnlyHint", False)
    if override.get("destructiveHint") and "readOnlyHint" not in override:
        read_only = False
    return Annotations(
        read_only=read_only,
        destructive=value("destructiveHint", True) and not read_only,
        idempotent=value("idempotentHint", False),
        open_world=value("openWorldHint", True),
        marked=frozenset(override),
    )
