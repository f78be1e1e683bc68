"""What should happen to a call: `PolicySet.decide`.

All rules that match count: deny beats require_approval beats allow, in whatever order they stand. Where none matches,
the preset decides (`Preset`).

A rule that fails to evaluate never means allow: a deny rule denies, a require_approval rule asks, an allow rule does
not match. A rule that does not fit the tool's schema (`Subject.misfits`) makes the call ask for approval. Where such a
rule holds nevertheless, its effect counts as well; that it fails is expected of it, so that it asks even if it is a
deny rule.

The preset `observe` watches: deny rules deny, and all that would have asked (require_approval rules, misfits, what
`balanced` asks for) is allowed with `Decision.would_ask` set and the question in `Decision.reason`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from holdfast_policy.compiled import CompiledRule, RuleProblem, Standing, View, requirement
from holdfast_policy.fit import misfit
from holdfast_policy.lint import lint
from holdfast_policy.presets import name_digest, preset_id, ruling_of
from holdfast_policy.values import ApprovalTerms, Consideration, Decision, Effect, Preset, Rule, Subject
from holdfast_store.model.values import Json, Requirement

__all__ = ["PolicySet", "RuleProblem", "lint"]

_TOOLS_REMEMBERED = 4096

_Stand = tuple[CompiledRule, Standing, str]


class PolicySet:
    """The policy of one config, compiled once. Everything here is pure; `decide` and `explain` never raise."""

    def __init__(self, preset: Preset, rules: Sequence[Rule], defaults: ApprovalTerms) -> None:
        """Compile `rules`; `defaults` are the terms of those that name none, and of the preset.

        Raises `RuleProblem` for the first rule whose condition is not one, or whose id another has.
        """
        self._preset = preset
        self._defaults = defaults
        self._by_id: dict[str, CompiledRule] = {}
        for rule in rules:
            if rule.id in self._by_id:
                raise RuleProblem(rule.id, "another rule has this id; give each its own")
            self._by_id[rule.id] = CompiledRule.of(rule, defaults)
        self._rules = tuple(self._by_id.values())
        self._covering: Callable[[str, str], tuple[CompiledRule, ...]] = lru_cache(_TOOLS_REMEMBERED)(self._select)

    def decide(self, subject: Subject) -> Decision:
        """What should happen to `subject`."""
        covering = self._covering(subject.tool, subject.server)
        if not covering and not subject.misfits:
            return self._by_preset(subject)
        view = View(subject)
        return self._combine(subject, [(compiled, *compiled.stands(view)) for compiled in covering])

    def explain(self, subject: Subject) -> Decision:
        """`decide`, with `Decision.considered` telling of every rule in order, then of the preset."""
        view = View(subject)
        stands: dict[str, _Stand] = {
            compiled.rule.id: (compiled, *compiled.stands(view))
            for compiled in self._covering(subject.tool, subject.server)
        }
        decision = self._combine(subject, list(stands.values()))
        considered = [_consider(compiled, stands.get(compiled.rule.id), subject) for compiled in self._rules]
        return replace(decision, considered=(*considered, self._consider_preset(subject, decision)))

    def misfits(self, tool: str, server: str, schema: Json) -> dict[str, str]:
        """The rules that look at `tool` but do not fit its input schema: rule id -> why, as a clause."""
        found: dict[str, str] = {}
        for compiled in self._covering(tool, server):
            if compiled.condition is not None:
                why = misfit(compiled.condition.tree, schema, tool=tool, server=server)
                if why is not None:
                    found[compiled.rule.id] = why
        return found

    def _select(self, tool: str, server: str) -> tuple[CompiledRule, ...]:
        return tuple(compiled for compiled in self._rules if compiled.covers(tool, server))

    def _combine(self, subject: Subject, stands: Sequence[_Stand]) -> Decision:
        applying = [stand for stand in stands if _applies(stand, subject)]
        denying = [stand for stand in applying if stand[0].rule.effect is Effect.DENY]
        if denying:
            return Decision(
                Effect.DENY,
                tuple(stand[0].rule.id for stand in denying),
                f"Policy denies {subject.tool}: {_clauses(denying)}.",
            )
        asking = [stand for stand in applying if stand[0].rule.effect is Effect.REQUIRE_APPROVAL]
        if asking or subject.misfits:
            return self._ask(subject, asking)
        if applying:
            return Decision(
                Effect.ALLOW,
                tuple(stand[0].rule.id for stand in applying),
                f"Policy allows {subject.tool}: {_clauses(applying)}.",
            )
        return self._by_preset(subject)

    def _ask(self, subject: Subject, asking: Sequence[_Stand]) -> Decision:
        clauses = [_clause(stand) for stand in asking]
        demands = {stand[0].rule.id: (stand[0].requirement, stand[0].terms) for stand in asking}
        for rule_id in subject.misfits:
            if rule_id not in demands:
                demands[rule_id] = self._demand_of_misfit(rule_id)
                clauses.append(f"rule {rule_id} does not fit the tool's schema")
        if self._preset is Preset.OBSERVE:
            return _watched(subject, tuple(demands), "; ".join(clauses))
        return Decision(
            Effect.REQUIRE_APPROVAL,
            tuple(demands),
            f"A person must approve {subject.tool}: {'; '.join(clauses)}.",
            requirements=tuple(need for need, _ in demands.values()),
            expires_in_s=min(terms.expires_in_s for _, terms in demands.values()),
            execute_within_s=min(terms.execute_within_s for _, terms in demands.values()),
        )

    def _demand_of_misfit(self, rule_id: str) -> tuple[Requirement, ApprovalTerms]:
        reason = "The rule does not fit the tool's schema"
        compiled = self._by_id.get(rule_id)
        if compiled is None:
            return requirement(rule_id, name_digest(f"misfit:{rule_id}"), self._defaults, reason), self._defaults
        return requirement(rule_id, compiled.rule.digest, compiled.terms, reason), compiled.terms

    def _by_preset(self, subject: Subject) -> Decision:
        ruling = ruling_of(self._preset, subject.annotations)
        name = preset_id(self._preset)
        if ruling.would_ask:
            return _watched(subject, (name,), ruling.why)
        if ruling.effect is Effect.ALLOW:
            return Decision(Effect.ALLOW, (name,), f"Policy allows {subject.tool}: {ruling.why}.")
        return Decision(
            Effect.REQUIRE_APPROVAL,
            (name,),
            f"A person must approve {subject.tool}: {ruling.why} (preset {self._preset}).",
            requirements=(requirement(name, name_digest(name), self._defaults, ruling.why),),
            expires_in_s=self._defaults.expires_in_s,
            execute_within_s=self._defaults.execute_within_s,
        )

    def _consider_preset(self, subject: Subject, decision: Decision) -> Consideration:
        name = preset_id(self._preset)
        ruling = ruling_of(self._preset, subject.annotations)
        decides = decision.rules == (name,)
        why = ruling.why if decides else "a rule decides"
        return Consideration(name, decides, ruling.effect, why)


def _applies(stand: _Stand, subject: Subject) -> bool:
    """Whether the rule's effect counts for this call. That a misfit asks is seen to apart."""
    compiled, standing, _ = stand
    if standing is Standing.MATCHES:
        return True
    if standing is not Standing.FAILS or compiled.rule.effect is Effect.ALLOW:
        return False
    return compiled.rule.id not in subject.misfits


def _watched(subject: Subject, rules: tuple[str, ...], clauses: str) -> Decision:
    return Decision(
        Effect.ALLOW,
        rules,
        f"{subject.tool} is allowed because policy only observes. A person would have to approve it: {clauses}.",
        would_ask=True,
    )


def _clauses(stands: Sequence[_Stand]) -> str:
    return "; ".join(_clause(stand) for stand in stands)


def _clause(stand: _Stand) -> str:
    compiled, standing, why = stand
    rule = compiled.rule
    if standing is Standing.FAILS:
        return f"rule {rule.id} could not be evaluated ({why})"
    reason = " ".join(rule.reason.split()).removesuffix(".")
    return f"rule {rule.id} ({reason})" if reason else f"rule {rule.id}"


def _consider(compiled: CompiledRule, stand: _Stand | None, subject: Subject) -> Consideration:
    rule = compiled.rule
    if stand is None:
        return Consideration(rule.id, False, rule.effect, compiled.overlooked_because(subject))
    counts = _applies(stand, subject)
    match stand[1]:
        case Standing.OVERLOOKS:
            why = compiled.overlooked_because(subject)
        case Standing.HOLDS_NOT:
            why = f"when {rule.when} is false"
        case Standing.FAILS:
            why = f"when {rule.when} could not be evaluated: {stand[2]}"
        case Standing.MATCHES:
            why = "match covers the call" if rule.when is None else f"when {rule.when} is true"
    if rule.id in subject.misfits:
        effect = rule.effect if counts and rule.effect is Effect.DENY else Effect.REQUIRE_APPROVAL
        return Consideration(rule.id, True, effect, f"{why}; it does not fit the tool's schema, so it asks")
    return Consideration(rule.id, counts, rule.effect, why)
