"""What is wrong with rules that compile: they contradict each other, cannot be satisfied, or do nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence

from holdfast_policy.annotations import HINTS
from holdfast_policy.compiled import RuleProblem
from holdfast_policy.conditions import BrokenCondition, Condition, Failed, bind
from holdfast_policy.fit import decided
from holdfast_policy.names import suggestion
from holdfast_policy.presets import ID_PREFIX
from holdfast_policy.syntax import Name, walk
from holdfast_policy.values import ApprovalTerms, Effect, Preset, Rule
from holdfast_store.model.values import LOCAL, Principal

OPERATOR_ROLES = frozenset({"approver", "admin"})
"""The roles of the built-in operator, who can always decide."""

DEFAULTS_ID = "approval_defaults"
"""The `rule_id` of problems with the default terms."""


def lint(
    preset: Preset,
    rules: Sequence[Rule],
    defaults: ApprovalTerms,
    role_ids: frozenset[str],
    *,
    principals: Sequence[Principal] | None = None,
) -> list[RuleProblem]:
    """Everything wrong with `rules` that compiling them does not find; conditions that do not compile are passed over.

    `role_ids` are the roles that anybody holds; the operator's are added. With `principals`, all that are configured,
    a rule is also held against how many people can satisfy it.
    """
    roles = role_ids | OPERATOR_ROLES
    holders = None if principals is None else [*(principal.roles for principal in principals), OPERATOR_ROLES]
    problems = [RuleProblem(DEFAULTS_ID, message) for message in _terms(defaults)]
    if preset is not Preset.OBSERVE:
        problems += [RuleProblem(DEFAULTS_ID, message) for message in _unsatisfiable(defaults, roles, holders)]
    times = Counter(rule.id for rule in rules)
    problems += [
        RuleProblem(rule_id, f"{count} rules have this id; give each its own")
        for rule_id, count in times.items()
        if count > 1
    ]
    for rule in rules:
        messages = [*_identity(rule), *_match(rule), *_approval(rule, roles, holders), *_condition(rule)]
        problems += [RuleProblem(rule.id, message) for message in messages]
    return problems


def _identity(rule: Rule) -> Iterator[str]:
    if not rule.id.strip():
        yield "it has no id; name it, so that decisions can"
    if rule.id.startswith(ID_PREFIX):
        yield f"ids that begin with {ID_PREFIX} are the presets' own; choose another id"


def _match(rule: Rule) -> Iterator[str]:
    for field, glob in (("tool", rule.match.tool), ("server", rule.match.server)):
        if not glob:
            yield f"match.{field} is empty and matches nothing; leave it out to match all"
    for hint in sorted(set(rule.match.annotations) - set(HINTS)):
        yield f"there is no annotation {hint}{suggestion(hint, HINTS)}"


def _approval(rule: Rule, roles: frozenset[str], holders: Sequence[frozenset[str]] | None) -> Iterator[str]:
    if rule.approval is None:
        return
    if rule.effect is not Effect.REQUIRE_APPROVAL:
        yield f"it has approval terms, but its effect is {rule.effect}; remove them, or make it require_approval"
        return
    yield from _terms(rule.approval)
    yield from _unsatisfiable(rule.approval, roles, holders)


def _terms(terms: ApprovalTerms) -> Iterator[str]:
    if terms.min_verdicts < 1:
        yield f"{terms.min_verdicts} verdicts would be an approval by nobody; ask for at least 1"
    if not terms.expires_in_s > 0:
        yield "expires_in must be longer than nothing; nobody could decide in time"
    if not terms.execute_within_s > 0:
        yield "execute_within must be longer than nothing; no approved call could start in time"


def _unsatisfiable(
    terms: ApprovalTerms, roles: frozenset[str], holders: Sequence[frozenset[str]] | None
) -> Iterator[str]:
    wanted = " or ".join(sorted(terms.roles))
    if not terms.roles:
        yield "nobody can approve: it names no role; name one"
    elif terms.roles.isdisjoint(roles):
        close = "".join(suggestion(role, roles) for role in sorted(terms.roles)[:1])
        yield f"nobody can approve: no principal holds {wanted}{close}"
    elif holders is not None:
        able = sum(not terms.roles.isdisjoint(held) for held in holders)
        if able < terms.min_verdicts:
            yield (
                f"nobody can approve: it needs {terms.min_verdicts} people who hold {wanted}, and there are {able};"
                " ask for fewer, or give more principals the role"
            )


def _condition(rule: Rule) -> Iterator[str]:
    if rule.when is None:
        return
    try:
        condition = Condition(rule.when)
    except BrokenCondition:
        return
    outcome = _constant_outcome(condition)
    if isinstance(outcome, Failed):
        yield f"`when` fails for every call: {outcome.why}; correct it"
    elif outcome is True:
        yield "`when` is true for every call; leave it out"
    elif outcome is False:
        yield "`when` is false for every call; correct it, or remove the rule"


def _constant_outcome(condition: Condition) -> bool | Failed | None:
    """What the condition comes to whatever the call is; None where the call decides."""
    outcome = decided(condition.tree, {})
    if outcome is not None or any(isinstance(node, Name) for node in walk(condition.tree)):
        return outcome
    bindings = bind("", "", LOCAL, {})
    return bindings if isinstance(bindings, Failed) else condition.holds(bindings)
