"""The values of policy: presets, rules, what is asked, what is answered."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from holdfast_policy.annotations import Annotations
from holdfast_store.model.values import Json, Principal, Requirement


class Preset(StrEnum):
    """What happens to a call that no rule matches."""

    OBSERVE = "observe"  # allow, and journal what `balanced` would have asked
    BALANCED = "balanced"  # allow effective read-only and non-destructive tools, ask for the rest
    STRICT = "strict"  # allow only what the operator marked read-only or non-destructive, ask for the rest


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """On which terms people are asked. `min_verdicts` distinct principals, each holding one of `roles`."""

    min_verdicts: int = 1
    roles: frozenset[str] = frozenset({"approver"})
    prevent_self_review: bool = True
    expires_in_s: float = 24 * 3600.0
    execute_within_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Match:
    """Which calls a rule looks at. Every given condition must hold; an empty match looks at all.

    `tool` is a glob (`fnmatchcase`) on the canonical ``server__tool``, `server` one on the downstream's name;
    `annotations` are required effective values by hint name; `roles`: the principal holds one of them.
    """

    tool: str = "*"
    server: str = "*"
    annotations: Mapping[str, bool] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the config. `when` is a CEL expression over `args`, `tool`, `server`, `principal`."""

    id: str
    effect: Effect
    match: Match = field(default_factory=Match)
    when: str | None = None
    reason: str = ""
    approval: ApprovalTerms | None = None

    @property
    def digest(self) -> str:
        """Identifies the rule's text: an approval given under another text does not satisfy this one."""
        terms = self.approval
        text = json.dumps(
            {
                "id": self.id,
                "effect": self.effect,
                "match": [
                    self.match.tool,
                    self.match.server,
                    sorted(self.match.annotations.items()),
                    sorted(self.match.roles),
                ],
                "when": self.when,
                "approval": terms and [terms.min_verdicts, sorted(terms.roles), terms.prevent_self_review],
            },
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Subject:
    """What policy is asked about."""

    tool: str
    server: str
    annotations: Annotations
    principal: Principal
    arguments: Json
    misfits: tuple[str, ...] = ()  # ids of rules that do not fit this tool's schema: each makes it ask


@dataclass(frozen=True, slots=True)
class Consideration:
    """One line of an explanation: a rule (or the preset), whether it matched, and why."""

    rule: str
    matched: bool
    effect: Effect | None
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says of a call, by which rules, and why.

    `requirements` are what people must satisfy where the effect is REQUIRE_APPROVAL; `expires_in_s` and
    `execute_within_s` are the tightest of the matching terms. `would_ask` is set by the preset `observe`.
    """

    effect: Effect
    rules: tuple[str, ...]
    reason: str
    requirements: tuple[Requirement, ...] = ()
    expires_in_s: float = 0.0
    execute_within_s: float = 0.0
    would_ask: bool = False
    considered: tuple[Consideration, ...] = ()
