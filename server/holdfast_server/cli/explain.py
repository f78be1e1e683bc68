"""`holdfast policy explain`: what policy says of one call, by which rules, and why."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast_policy.annotations import Annotations, effective
from holdfast_policy.decide import PolicySet
from holdfast_policy.names import nearest
from holdfast_policy.values import Decision, Subject
from holdfast_server.cli.catalog import Seen, annotation_words, annotations_payload, last_seen
from holdfast_server.cli.failures import NOT_FOUND, Failure, note
from holdfast_server.cli.output import Column, fields, print_json, table
from holdfast_server.config import Config, load
from holdfast_server.config.quantities import duration_words
from holdfast_store.model.values import LOCAL, Json, Principal
from holdfast_tools.catalog import Tool
from holdfast_tools.settings import settings_for


@dataclass(frozen=True, slots=True)
class _Asked:
    """The tool that was asked about; `tool` is None where no catalog knows it yet."""

    canonical: str
    server: str
    annotations: Annotations
    tool: Tool | None


def explain(path: Path, name: str, arguments: dict[str, Any], principal_id: str | None, as_json: bool) -> None:
    """Print the decision on a call of `name` with `arguments`."""
    config = load(path, os.environ)
    asked = _find(config, name)
    principal = _principal(config, principal_id)
    misfits = asked.tool.misfits if asked.tool is not None else ()
    subject = Subject(asked.canonical, asked.server, asked.annotations, principal, arguments, misfits)
    decision = PolicySet(config.preset, config.rules, config.approval_defaults).explain(subject)
    problems = asked.tool.schema.problems(arguments) if asked.tool is not None else ()
    if as_json:
        print_json(_payload(asked, principal, decision, [str(problem) for problem in problems]))
        return
    if asked.tool is None:
        note(f"{asked.canonical} was never seen: schema and the server's hints are not known; serve the config once")
    for problem in problems:
        note(f"these arguments would be refused before policy: {problem}")
    print(_words(asked, principal, decision))


def _find(config: Config, name: str) -> _Asked:
    seen = last_seen(config)
    tool = seen.catalog.get(name) or seen.catalog.find(name)
    if tool is not None:
        return _Asked(tool.canonical, tool.downstream, tool.annotations, tool)
    server = _server_of(config, name)
    if server is None or server not in seen.unseen:
        raise Failure(_unknown(config, seen, name), NOT_FOUND)
    override = settings_for(name, config.patterns).annotations
    return _Asked(name, server, effective(override, None, config.trust.get(server)), None)


def _server_of(config: Config, canonical: str) -> str | None:
    return next((spec.name for spec in config.downstreams if canonical.startswith(f"{spec.name}__")), None)


def _unknown(config: Config, seen: Seen, name: str) -> str:
    aside = next((entry for entry in seen.catalog.set_aside() if entry.canonical == name), None)
    if aside is not None:
        return f"the tool {name!r} is set aside: {aside.reason}"
    close = seen.catalog.nearest(name) or nearest(name, [f"{spec.name}__" for spec in config.downstreams])
    mend = f"did you mean {close!r}?" if close else f"`holdfast tools {config.path}` shows those there are"
    return f"there is no tool {name!r}; {mend}"


def _principal(config: Config, principal_id: str | None) -> Principal:
    if principal_id is None or principal_id == LOCAL.id:
        return LOCAL
    known = {entry.principal.id: entry.principal for entry in config.principals}
    if principal_id not in known:
        mend = f"known are {', '.join(known)}" if known else "the config has none"
        raise Failure(f"there is no principal {principal_id!r}; {mend}", NOT_FOUND)
    return known[principal_id]


def _payload(asked: _Asked, principal: Principal, decision: Decision, problems: list[str]) -> Json:
    return {
        "tool": asked.canonical,
        "known": asked.tool is not None,
        "principal": principal.id,
        "annotations": annotations_payload(asked.annotations),
        "effect": decision.effect.value,
        "would_ask": decision.would_ask,
        "reason": decision.reason,
        "rules": list(decision.rules),
        "requirements": [
            {
                "rule": need.rule,
                "min": need.min_verdicts,
                "roles": sorted(need.roles),
                "prevent_self_review": need.prevent_self_review,
            }
            for need in decision.requirements
        ],
        "expires_in_s": decision.expires_in_s,
        "execute_within_s": decision.execute_within_s,
        "considered": [
            {"rule": c.rule, "matched": c.matched, "effect": c.effect and c.effect.value, "why": c.why}
            for c in decision.considered
        ],
        "problems": problems,
    }


def _words(asked: _Asked, principal: Principal, decision: Decision) -> str:
    needed = [f"{need.min_verdicts} of {', '.join(sorted(need.roles))} ({need.rule})" for need in decision.requirements]
    waits = f"{duration_words(decision.expires_in_s)}, then it is rejected" if decision.requirements else ""
    head = fields(
        (
            ("decision", decision.effect.value + (" (would ask)" if decision.would_ask else "")),
            ("reason", decision.reason),
            ("tool", f"{asked.canonical} ({annotation_words(asked.annotations)})"),
            ("caller", f"{principal.id} ({', '.join(sorted(principal.roles)) or 'no roles'})"),
            ("needs", "\n".join(needed)),
            ("waits", waits),
        )
    )
    columns = (Column("rule", kept=True), Column("counts", kept=True), Column("effect", kept=True), Column("why"))
    rows = [
        (c.rule, "yes" if c.matched else "no", c.effect.value if c.effect else "", c.why) for c in decision.considered
    ]
    return f"{head}\n\n{table(columns, rows)}"
