"""The tools that the simulated downstreams offer, and what is true of each.

What the judge knows of a tool stands here in plain words, beside the config from which the product has to conclude
the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Effect, Match, Preset, Rule
from holdfast_store.model.values import CatalogRecord, Json, Principal
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.settings import WRITE_TIMEOUT_S, ToolPattern


@dataclass(frozen=True, slots=True)
class Sketch:
    """One tool. `asks` is how many approvals a call needs, each from somebody with `role`."""

    name: str
    hints: Mapping[str, bool] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    read_only: bool = False
    retry_safe: bool = False
    asks: int = 0
    role: str = "approver"
    denied: bool = False
    takes_key: bool = False

    @property
    def timeout_s(self) -> float:
        default = 60.0 if self.read_only else WRITE_TIMEOUT_S
        return float(self.settings.get("timeout_s", default))

    @property
    def max_attempts(self) -> int:
        return int(self.settings.get("max_attempts", 1))


_HARMLESS = {"destructiveHint": False}

SKETCHES: Mapping[str, Sketch] = {
    sketch.name: sketch
    for sketch in (
        Sketch("look", {"readOnlyHint": True}, read_only=True, retry_safe=True),
        Sketch(
            "audit",
            {"readOnlyHint": True},
            {"journal_strict": True, "timeout_s": 3.0},
            read_only=True,
            retry_safe=True,
        ),
        Sketch("write", _HARMLESS),
        Sketch("hasty", _HARMLESS, {"timeout_s": 2.0}),
        Sketch("put", {}, {"annotations": {"idempotentHint": True, **_HARMLESS}, "timeout_s": 2.0}, retry_safe=True),
        Sketch("flaky", _HARMLESS, {"max_attempts": 3}),
        Sketch(
            "order",
            _HARMLESS,
            {"key_argument": "ref", "forward_key": "ref", "timeout_s": 2.0},
            retry_safe=True,
            takes_key=True,
        ),
        Sketch("pay", asks=1),
        Sketch("wire", _HARMLESS, asks=2, role="finance"),
        Sketch("wipe", _HARMLESS, denied=True),
    )
}

EXPIRES_S = 60.0
EXECUTE_WITHIN_S = 20.0

DOWNSTREAMS = ("bank", "mail")

STERN_FROM = 1
"""Under the stern policy a `write` of this `n` or more is denied, and every `flaky` asks."""

ANA = Principal("ana", frozenset({"approver"}))
BEN = Principal("ben")
CLEO = Principal("cleo", frozenset({"approver", "finance"}))
DORA = Principal("dora", frozenset({"approver", "finance", "admin"}))

AGENTS = (ANA, BEN)
APPROVERS = (CLEO, DORA, ANA)
PRINCIPALS = {(person.tenant, person.id): person for person in (ANA, BEN, CLEO, DORA)}
ROLES = {person.id: person.roles for person in PRINCIPALS.values()}

PATTERNS = tuple(ToolPattern(f"*__{sketch.name}", dict(sketch.settings)) for sketch in SKETCHES.values())

_SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "ref": {"type": "string"}},
    "required": ["n"],
}


def denied(sketch: Sketch, arguments: Json, *, stern: bool) -> bool:
    """Whether policy says no."""
    return sketch.denied or (stern and sketch.name == "write" and arguments["n"] >= STERN_FROM)


def asked(sketch: Sketch, *, stern: bool) -> int:
    """How many approvals a call needs."""
    return max(sketch.asks, int(stern and sketch.name == "flaky"))


@lru_cache
def policy(*, stern: bool) -> PolicySet:
    """The policy that says the same in rules."""
    finance = ApprovalTerms(2, frozenset({"finance"}), expires_in_s=EXPIRES_S, execute_within_s=EXECUTE_WITHIN_S)
    defaults = ApprovalTerms(expires_in_s=EXPIRES_S, execute_within_s=EXECUTE_WITHIN_S)
    rules = [
        Rule("two-for-wires", Effect.REQUIRE_APPROVAL, Match(tool="*__wire"), approval=finance),
        Rule("no-wiping", Effect.DENY, Match(tool="*__wipe"), reason="nothing is wiped here"),
    ]
    if stern:
        rules.append(Rule("small-writes", Effect.DENY, Match(tool="*__write"), when=f"args.n >= {STERN_FROM}"))
        rules.append(Rule("flaky-asks", Effect.REQUIRE_APPROVAL, Match(tool="*__flaky")))
    return PolicySet(Preset.BALANCED, rules, defaults)


@lru_cache
def spec(name: str, generation: int) -> DownstreamSpec:
    """The downstream `name`; another `generation` is another command line, and so another identity."""
    return DownstreamSpec(name, StdioSpec(name, ("--generation", str(generation))))


@lru_cache
def listing(name: str, generation: int, edition: int) -> CatalogRecord:
    """What `name` lists; another `edition` describes `pay` and `wire` in other words."""
    return CatalogRecord(name, spec(name, generation).identity, "2025-11-25", _tools(edition), 0.0)


def _tools(edition: int) -> tuple[Json, ...]:
    return tuple(
        {
            "name": sketch.name,
            "description": f"{sketch.name}, edition {edition if sketch.asks else 0}",
            "inputSchema": _SCHEMA,
            "annotations": dict(sketch.hints),
        }
        for sketch in SKETCHES.values()
    )
