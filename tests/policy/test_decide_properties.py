"""What holds of every policy and every call."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from holdfast_policy.annotations import HINTS, Annotations
from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Decision, Effect, Match, Preset, Rule, Subject
from holdfast_store.model.values import Principal

LETTERS = "aZ0 ß\x00\ud800"
CONDITIONS = (
    None,
    "args.amount > 100",
    "has(args.amount) && args.amount > 100",
    "args.amount == null || args.amount == 'a'",
    "args.tags.exists(tag, tag == 'a')",
    "1 / args.amount == 1",
    "'admin' in principal.roles",
    "tool.startsWith('bank__')",
    "true",
    "false",
)
RAISING = ("args.absent == 1", "1 / 0 == 1", "args.absent.matches('a')", "args.list[7] == 1")

roles = some.frozensets(some.sampled_from(["admin", "finance", "approver"]))
terms = some.builds(
    ApprovalTerms,
    min_verdicts=some.integers(1, 3),
    roles=roles,
    prevent_self_review=some.booleans(),
    expires_in_s=some.floats(1, 1000),
    execute_within_s=some.floats(1, 1000),
)
matches = some.builds(
    Match,
    tool=some.sampled_from(["*", "bank__*", "bank__pay", "shop__*", ""]),
    server=some.sampled_from(["*", "bank", "shop"]),
    annotations=some.dictionaries(some.sampled_from(HINTS), some.booleans(), max_size=2),
    roles=roles,
)
rules = some.builds(
    Rule,
    id=some.sampled_from("abcdef"),
    effect=some.sampled_from(Effect),
    match=matches,
    when=some.sampled_from(CONDITIONS),
    reason=some.sampled_from(["", "Because."]),
    approval=some.none() | terms,
)
policies = some.lists(rules, max_size=5, unique_by=lambda rule: rule.id)
scalars = some.none() | some.booleans() | some.integers() | some.floats() | some.text(LETTERS, max_size=3)
values = (
    scalars | some.lists(scalars, max_size=3) | some.dictionaries(some.text(LETTERS, max_size=2), scalars, max_size=2)
)
subjects = some.builds(
    Subject,
    tool=some.sampled_from(["bank__pay", "bank__list", "shop__buy"]),
    server=some.sampled_from(["bank", "shop"]),
    annotations=some.builds(
        Annotations,
        read_only=some.booleans(),
        destructive=some.booleans(),
        idempotent=some.booleans(),
        open_world=some.booleans(),
        marked=some.frozensets(some.sampled_from(HINTS)),
    ),
    principal=some.builds(Principal, id=some.sampled_from(["anna", "bert"]), roles=roles),
    arguments=some.dictionaries(some.sampled_from(["amount", "tags", "other"]), values, max_size=3),
    misfits=some.lists(some.sampled_from("abcxyz"), max_size=2, unique=True).map(tuple),
)
presets = some.sampled_from(Preset)
DEFAULTS = ApprovalTerms()


def decide(preset: Preset, policy: list[Rule], subject: Subject) -> Decision:
    return PolicySet(preset, policy, DEFAULTS).decide(subject)


def strictness(decision: Decision) -> int:
    """How much a decision holds up: an allow that would have asked is no more permissive than a plain one."""
    if decision.effect is Effect.ALLOW:
        return 1 if decision.would_ask else 0
    return 3 if decision.effect is Effect.DENY else 2


@given(presets, policies, subjects, matches, some.sampled_from(CONDITIONS + RAISING))
def test_adding_a_deny_rule_never_makes_a_decision_more_permissive(
    preset: Preset, policy: list[Rule], subject: Subject, match: Match, when: str | None
) -> None:
    added = [*policy, Rule("new", Effect.DENY, match, when)]
    assert strictness(decide(preset, added, subject)) >= strictness(decide(preset, policy, subject))


@given(presets, policies, subjects, some.none() | terms)
def test_adding_a_require_approval_rule_that_matches_never_yields_a_plain_allow(
    preset: Preset, policy: list[Rule], subject: Subject, approval: ApprovalTerms | None
) -> None:
    decision = decide(preset, [*policy, Rule("new", Effect.REQUIRE_APPROVAL, approval=approval)], subject)
    assert strictness(decision) >= (1 if preset is Preset.OBSERVE else 2)
    if decision.effect is Effect.REQUIRE_APPROVAL:
        assert "new" in [need.rule for need in decision.requirements]


@given(presets, policies, subjects, some.randoms(use_true_random=False))
def test_the_order_of_rules_never_matters(preset: Preset, policy: list[Rule], subject: Subject, random: Any) -> None:
    shuffled = random.sample(policy, len(policy))
    one, other = decide(preset, policy, subject), decide(preset, shuffled, subject)
    assert (one.effect, one.would_ask, set(one.rules)) == (other.effect, other.would_ask, set(other.rules))
    assert set(one.requirements) == set(other.requirements)
    assert (one.expires_in_s, one.execute_within_s) == (other.expires_in_s, other.execute_within_s)


@given(presets, policies, subjects, some.sampled_from(Effect), some.sampled_from(RAISING))
def test_a_rule_that_fails_never_makes_a_decision_more_permissive(
    preset: Preset, policy: list[Rule], subject: Subject, effect: Effect, when: str
) -> None:
    failing = Rule("new", effect, when=when)
    decision = decide(preset, [*policy, failing], subject)
    assert strictness(decision) >= strictness(decide(preset, policy, subject))
    if effect is Effect.DENY:
        assert decision.effect is Effect.DENY
    if effect is Effect.REQUIRE_APPROVAL:
        assert decision.effect is not Effect.ALLOW or decision.would_ask


@given(presets, policies, subjects, some.sampled_from("abcxyz"))
def test_a_misfit_never_yields_a_plain_allow(preset: Preset, policy: list[Rule], subject: Subject, misfit: str) -> None:
    decision = decide(preset, policy, replace(subject, misfits=(misfit,)))
    assert decision.effect is not Effect.ALLOW or decision.would_ask


@given(presets, policies, subjects)
def test_rules_about_other_tools_make_no_difference(preset: Preset, policy: list[Rule], subject: Subject) -> None:
    foreign = [Rule(f"new-{n}", effect, Match(tool="elsewhere__*")) for n, effect in enumerate(Effect)]
    assert decide(preset, foreign + policy, subject) == decide(preset, policy, subject)


@given(presets, policies, subjects)
def test_every_decision_is_whole_and_explaining_it_changes_nothing(
    preset: Preset, policy: list[Rule], subject: Subject
) -> None:
    before = repr(subject)
    policy_set = PolicySet(preset, policy, DEFAULTS)
    decision, explained = policy_set.decide(subject), policy_set.explain(subject)
    assert replace(explained, considered=()) == decision == policy_set.decide(subject)
    assert [line.rule for line in explained.considered] == [*(rule.id for rule in policy), f"preset:{preset}"]
    assert decision.rules
    assert decision.reason.endswith(".")
    assert "\n" not in decision.reason
    asks = decision.effect is Effect.REQUIRE_APPROVAL
    assert bool(decision.requirements) is asks
    assert (decision.expires_in_s > 0) is asks
    assert (decision.execute_within_s > 0) is asks
    assert len({need.rule for need in decision.requirements}) == len(decision.requirements)
    assert not decision.would_ask or preset is Preset.OBSERVE
    assert repr(subject) == before


@given(rules, rules)
def test_rules_have_the_same_digest_only_when_they_ask_the_same(one: Rule, other: Rule) -> None:
    def text(rule: Rule) -> str:
        terms = rule.approval
        asked = terms and (terms.min_verdicts, sorted(terms.roles), terms.prevent_self_review)
        match = (rule.match.tool, rule.match.server, sorted(rule.match.annotations.items()), sorted(rule.match.roles))
        return json.dumps((rule.id, rule.effect, match, rule.when, asked))

    assert (one.digest == other.digest) is (text(one) == text(other))
