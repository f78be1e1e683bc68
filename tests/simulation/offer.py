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
from holdfast_tools.settings import WRITE_TIMEOUT_S, Order, ToolPattern


@dataclass(frozen=True, slots=True)
class Sketch:
    """One tool. `asks` is how many approvals a call needs, each from somebody with `role`.

    `questions` is how often at most it asks its caller for input; `makes_task`: its downstream makes tasks of calls.
    `in_order`: its calls run one at a time, in order; with `ordered_by` those with the same value of that argument.
    """

    name: str
    hints: Mapping[str, bool] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    read_only: bool = False
    retry_safe: bool = False
    asks: int = 0
    role: str = "approver"
    denied: bool = False
    takes_key: bool = False
    questions: int = 0
    makes_task: bool = False
    in_order: bool = False
    ordered_by: str | None = None

    @property
    def timeout_s(self) -> float:
        default = 60.0 if self.read_only else WRITE_TIMEOUT_S
        return float(self.settings.get("timeout_s", default))

    @property
    def max_attempts(self) -> int:
        return int(self.settings.get("max_attempts", 1))


_HARMLESS = {"destructiveHint": False}
_REPEATABLE = {"idempotentHint": True, **_HARMLESS}

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
        Sketch("put", {}, {"annotations": _REPEATABLE, "timeout_s": 2.0}, retry_safe=True),
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
        Sketch("survey", _HARMLESS, questions=2),
        Sketch("inquire", {}, {"annotations": _REPEATABLE, "timeout_s": 4.0}, retry_safe=True, questions=2),
        Sketch("export", _HARMLESS, {"timeout_s": 20.0}, questions=1, makes_task=True),
        Sketch(
            "report",
            {},
            {"annotations": _REPEATABLE, "timeout_s": 8.0},
            retry_safe=True,
            questions=1,
            makes_task=True,
        ),
        Sketch("append", _HARMLESS, {"order": Order()}, in_order=True),
        Sketch(
            "update",
            {},
            {"annotations": _REPEATABLE, "timeout_s": 2.0, "order": Order(by="/n")},
            retry_safe=True,
            in_order=True,
            ordered_by="n",
        ),
        Sketch("book", {}, {"order": Order()}, asks=1, in_order=True),
        Sketch("enroll", _HARMLESS, {"order": Order(by="/n")}, questions=2, in_order=True, ordered_by="n"),
        Sketch("ship", _HARMLESS, {"timeout_s": 20.0, "order": Order()}, makes_task=True, in_order=True),
    )
}

EXPIRES_S = 60.0
EXECUTE_WITHIN_S = 20.0

DOWNSTREAMS = ("bank", "mail")

HANDSHAKE = "mail"
"""The one that speaks the handshake era: it asks in the midst of a call, and makes core tasks. The other is modern."""

STERN_FROM = 1
"""Under the stern policy a `write` or `pay` of this `n` or more is denied, and every `flaky` asks."""

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
    return sketch.denied or (stern and sketch.name in ("write", "pay") and arguments["n"] >= STERN_FROM)


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
        rules.append(Rule("big-writes", Effect.DENY, Match(tool="*__write"), when=f"args.n >= {STERN_FROM}"))
        rules.append(Rule("big-pays", Effect.DENY, Match(tool="*__pay"), when=f"args.n >= {STERN_FROM}"))
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
            **({"execution": {"taskSupport": "optional"}} if sketch.makes_task else {}),
        }
        for sketch in SKETCHES.values()
    )
