"""The tools of a config as its store last saw them, without an engine."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from holdfast_policy.annotations import HINTS, Annotations
from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Effect, Preset, Rule, Subject
from holdfast_server.cli import stored
from holdfast_server.cli.output import Column, table
from holdfast_server.config import Config
from holdfast_store.model.values import LOCAL, Json
from holdfast_tools.catalog import Catalog, Tool


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store holds of the downstreams. `unseen`: those that have not connected as they are configured now."""

    catalog: Catalog
    unseen: tuple[str, ...]


def last_seen(config: Config) -> Seen:
    """The catalog as the next start would have it before any downstream connects. Raises `StoreError`."""
    logging.getLogger("holdfast").addHandler(logging.NullHandler())  # what it warns of is in the catalog itself
    policy = PolicySet(config.preset, config.rules, config.approval_defaults)
    catalog = Catalog(prefix=config.prefix, patterns=config.patterns, trust=config.trust, policy=policy)
    identities = {spec.name: spec.identity for spec in config.downstreams}
    known = set()
    for record in stored.catalogs(config.store_url):
        if identities.get(record.downstream) == record.identity:
            catalog.update(record)
            known.add(record.downstream)
    return Seen(catalog, tuple(name for name in identities if name not in known))


def tool_payload(config: Config, tool: Tool) -> Json:
    """A tool as commands show it to programs: what is believed of it, and what happens to a call."""
    return {
        "name": tool.name,
        "canonical": tool.canonical,
        "downstream": tool.downstream,
        "annotations": annotations_payload(tool.annotations),
        "by_default": usual_fate(config, tool.canonical, tool.downstream, tool.annotations, tool.misfits),
        "misfits": list(tool.misfits),
        "order": None if tool.settings.order is None else {"by": tool.settings.order.by},
        "needs": list(tool.needs),
        "definition_sha256": tool.digest,
    }


def tool_table(config: Config, tools: Sequence[Tool]) -> str:
    """The same for people, one line a tool."""
    columns = (Column("tool"), Column("taken as"), Column("a call is"))
    rows = []
    for tool in tools:
        fate = usual_fate(config, tool.canonical, tool.downstream, tool.annotations, tool.misfits)
        rows.append((tool.name, annotation_words(tool.annotations), fate_words(fate) + order_words(tool)))
    return table(columns, rows)


def order_words(tool: Tool) -> str:
    """Which calls of the tool run one after the other, as an addition to what happens to a call."""
    order = tool.settings.order
    if order is None:
        return ""
    return "; one at a time" if order.by is None else f"; one at a time for each {order.by}"


def annotations_payload(annotations: Annotations) -> Json:
    """Effective annotations by their MCP names, and which of them the config set."""
    hints: Json = {hint: annotations.hint(hint) for hint in HINTS}
    return {**hints, "set_by_config": sorted(annotations.marked)}


def annotation_words(annotations: Annotations) -> str:
    """Effective annotations as a person says them."""
    if annotations.read_only:
        return "read-only"
    words = ["destructive" if annotations.destructive else "not destructive"]
    if annotations.idempotent:
        words.append("idempotent")
    return ", ".join(words)


def usual_fate(config: Config, tool: str, server: str, annotations: Annotations, misfits: tuple[str, ...]) -> Json:
    """What happens to a call of `tool` whatever its arguments, and what conditions may make of it.

    ``{"effect", "rules", "conditions": [{"rule", "effect", "when"}]}``, for a local caller without roles.
    """
    always = [rule for rule in config.rules if rule.when is None]
    subject = Subject(tool, server, annotations, LOCAL, {}, misfits)
    decision = _policy(config, always).decide(subject)
    conditional = [rule for rule in config.rules if rule.when is not None and _covers(rule, subject)]
    return {
        "effect": decision.effect.value,
        "rules": list(decision.rules),
        "would_ask": decision.would_ask,
        "conditions": [{"rule": rule.id, "effect": rule.effect.value, "when": rule.when} for rule in conditional],
    }


def fate_words(fate: Json) -> str:
    """`usual_fate` as a person says it."""
    words = {Effect.ALLOW: "allowed", Effect.DENY: "denied", Effect.REQUIRE_APPROVAL: "asks"}
    usual = words[Effect(fate["effect"])] + (" (would ask)" if fate["would_ask"] else "")
    if fate["conditions"]:
        usual += "; " + ", ".join(f"{words[Effect(c['effect'])]} if {c['rule']}" for c in fate["conditions"])
    return usual


def _covers(rule: Rule, subject: Subject) -> bool:
    """Whether the rule looks at such a call at all, its condition aside."""
    unconditional = replace(rule, when=None, effect=Effect.DENY, approval=None)
    decision = PolicySet(Preset.OBSERVE, [unconditional], ApprovalTerms()).decide(replace(subject, misfits=()))
    return decision.effect is Effect.DENY


def _policy(config: Config, rules: list[Rule]) -> PolicySet:
    return PolicySet(config.preset, rules, config.approval_defaults)
