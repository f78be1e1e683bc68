"""`rules` and `approval_defaults`: policy as values, compiled once so that its mistakes are found before a call."""

from collections.abc import Sequence
from dataclasses import replace

from holdfast_policy.decide import PolicySet, RuleProblem, lint
from holdfast_policy.lint import DEFAULTS_ID
from holdfast_policy.values import ApprovalTerms, Match, Preset, Rule
from holdfast_server.config.document import Document, Where
from holdfast_server.config.problems import Findings, nearest
from holdfast_server.config.sections import Sections
from holdfast_server.config.shape import ApprovalShape, RuleShape
from holdfast_server.config.tools import can_begin_with, check_glob, hints
from holdfast_store.model.values import Principal

_TERMS = {
    "min": "min_verdicts",
    "roles": "roles",
    "prevent_self_review": "prevent_self_review",
    "expires_in": "expires_in_s",
    "execute_within": "execute_within_s",
}


def terms(shape: ApprovalShape | None, defaults: ApprovalTerms) -> ApprovalTerms:
    """`defaults` with what `shape` sets."""
    if shape is None:
        return defaults

    chosen = {name: getattr(shape, key) for key, name in _TERMS.items() if key in shape.model_fields_set}
    if "roles" in chosen:
        chosen["roles"] = frozenset(chosen["roles"])
    return replace(defaults, **chosen)


def read_rules(
    document: Document, sections: Sections, findings: Findings, servers: tuple[str, ...], defaults: ApprovalTerms
) -> list[tuple[Where, Rule]]:
    """The rules in the order of the file, each with its place."""
    rules: list[tuple[Where, Rule]] = []
    for where, shape in sections.sequence("rules", RuleShape):
        _check_match(document, findings, servers, where, shape)
        match = Match(
            tool=str(shape.match.tool),
            server=str(shape.match.server),
            annotations=hints(shape.match.annotations),
            roles=frozenset(map(str, shape.match.roles)),
        )
        rule = Rule(
            id=str(shape.id),
            effect=shape.effect,
            match=match,
            when=None if shape.when is None else str(shape.when),
            reason=str(shape.reason),
            approval=None if shape.approval is None else terms(shape.approval, defaults),
        )
        rules.append((where, rule))
    return rules


def _check_match(
    document: Document, findings: Findings, servers: tuple[str, ...], where: Where, shape: RuleShape
) -> None:
    tool_line = document.line((*where, "match", "tool"))
    check_glob(shape.match.tool, tool_line, findings, servers)
    glob = shape.match.server
    if servers and not any(can_begin_with(glob + "$", f"{name}$") for name in servers):
        close = nearest(glob, servers)
        findings.warning(
            document.line((*where, "match", "server")),
            f"{glob!r} is none of the servers",
            f"did you mean {close!r}?" if close else f"servers are {', '.join(servers)}",
        )


def check_rules(
    document: Document,
    findings: Findings,
    preset: Preset,
    rules: Sequence[tuple[Where, Rule]],
    defaults: ApprovalTerms,
    principals: Sequence[Principal] | None,
) -> None:
    """Compile and lint `rules`. `principals` are all that are configured; None where that could not be found out."""
    last_place = {rule.id: where for where, rule in rules}
    for where, rule in rules:
        try:
            PolicySet(preset, [rule], defaults)
        except RuleProblem as broken:
            _tell(document, findings, where, broken)
    if principals is None:
        terms_named = [rule.approval for _, rule in rules if rule.approval is not None]
        roles = frozenset(role for named in (defaults, *terms_named) for role in named.roles)
    else:
        roles = frozenset(role for principal in principals for role in principal.roles)
    for problem in lint(preset, [rule for _, rule in rules], defaults, roles, principals=principals):
        _tell(document, findings, last_place.get(problem.rule_id, (DEFAULTS_ID,)), problem)


def _tell(document: Document, findings: Findings, where: Where, problem: RuleProblem) -> None:
    cause, separator, mend = problem.message.partition("; ")
    name = problem.rule_id if where == (DEFAULTS_ID,) else f"rule {problem.rule_id!r}"
    findings.problem(document.line(where), f"{name}: {cause}", mend if separator else "correct the rule")
