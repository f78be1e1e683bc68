"""Decisions: presets, rules, failures, misfits, and how they are explained."""

from collections.abc import Sequence
from typing import Any

import pytest

from holdfast_policy.annotations import Annotations
from holdfast_policy.decide import PolicySet, RuleProblem
from holdfast_policy.values import ApprovalTerms, Decision, Effect, Match, Preset, Rule, Subject
from holdfast_store.model.values import Principal

DEFAULTS = ApprovalTerms()
READ_ONLY = Annotations(read_only=True, destructive=False)
HARMLESS = Annotations(destructive=False)
DESTRUCTIVE = Annotations()
ANNA = Principal("anna", frozenset({"support"}), "acme")


def subject(
    arguments: dict[str, Any] | None = None,
    *,
    tool: str = "bank__pay",
    annotations: Annotations = DESTRUCTIVE,
    principal: Principal = ANNA,
    misfits: tuple[str, ...] = (),
) -> Subject:
    return Subject(tool, tool.partition("__")[0], annotations, principal, arguments or {}, misfits)


def decide(
    rules: Sequence[Rule], about: Subject, preset: Preset = Preset.BALANCED, defaults: ApprovalTerms = DEFAULTS
) -> Decision:
    return PolicySet(preset, rules, defaults).decide(about)


ALLOW = Rule("let-pass", Effect.ALLOW)
DENY = Rule("closed", Effect.DENY, reason="Payments are closed.")
ASK = Rule("ask-finance", Effect.REQUIRE_APPROVAL, reason="Refunds over 100 need finance")


# --- presets ----------------------------------------------------------------------------------------------------

MARKED_READ_ONLY = Annotations(read_only=True, destructive=False, marked=frozenset({"readOnlyHint"}))
MARKED_HARMLESS = Annotations(destructive=False, marked=frozenset({"destructiveHint"}))
MARKED_OTHERWISE = Annotations(destructive=False, marked=frozenset({"idempotentHint", "openWorldHint"}))


@pytest.mark.parametrize(
    ("preset", "annotations", "effect"),
    [
        (Preset.BALANCED, READ_ONLY, Effect.ALLOW),
        (Preset.BALANCED, HARMLESS, Effect.ALLOW),
        (Preset.BALANCED, DESTRUCTIVE, Effect.REQUIRE_APPROVAL),
        (Preset.STRICT, READ_ONLY, Effect.REQUIRE_APPROVAL),
        (Preset.STRICT, HARMLESS, Effect.REQUIRE_APPROVAL),
        (Preset.STRICT, DESTRUCTIVE, Effect.REQUIRE_APPROVAL),
        (Preset.STRICT, MARKED_OTHERWISE, Effect.REQUIRE_APPROVAL),
        (Preset.STRICT, MARKED_READ_ONLY, Effect.ALLOW),
        (Preset.STRICT, MARKED_HARMLESS, Effect.ALLOW),
        (Preset.OBSERVE, READ_ONLY, Effect.ALLOW),
        (Preset.OBSERVE, DESTRUCTIVE, Effect.ALLOW),
    ],
)
def test_without_a_rule_the_preset_decides(preset: Preset, annotations: Annotations, effect: Effect) -> None:
    decision = decide([], subject(annotations=annotations), preset)
    assert decision.effect is effect
    assert decision.rules == (f"preset:{preset}",)
    assert decision.would_ask is (preset is Preset.OBSERVE and annotations is DESTRUCTIVE)


def test_what_a_preset_asks_is_asked_on_the_default_terms_under_a_stable_digest() -> None:
    terms = ApprovalTerms(2, frozenset({"lead"}), False, 60.0, 30.0)
    first = decide([], subject(), defaults=terms)
    (need,) = first.requirements
    assert (need.rule, need.min_verdicts, need.roles, need.prevent_self_review) == (
        "preset:balanced",
        2,
        frozenset({"lead"}),
        False,
    )
    assert (first.expires_in_s, first.execute_within_s) == (60.0, 30.0)
    other = decide([DENY], subject({}, misfits=()), Preset.STRICT)
    assert other.requirements == ()
    assert need.digest == decide([], subject({"x": 1}, tool="a__b")).requirements[0].digest
    assert need.digest != decide([], subject(), Preset.STRICT).requirements[0].digest


# --- rules ------------------------------------------------------------------------------------------------------


def test_deny_beats_require_approval_beats_allow() -> None:
    assert decide([ALLOW, ASK, DENY], subject()).effect is Effect.DENY
    assert decide([ALLOW, ASK], subject()).effect is Effect.REQUIRE_APPROVAL
    assert decide([ALLOW], subject()).effect is Effect.ALLOW


@pytest.mark.parametrize("preset", list(Preset))
def test_an_allow_rule_allows_and_a_deny_rule_denies_under_every_preset(preset: Preset) -> None:
    assert decide([ALLOW], subject(), preset).effect is Effect.ALLOW
    assert decide([ALLOW, DENY], subject(), preset).effect is Effect.DENY


@pytest.mark.parametrize(
    ("match", "looks"),
    [
        (Match(), True),
        (Match(tool="bank__*"), True),
        (Match(tool="bank__pa?"), True),
        (Match(tool="BANK__*"), False),
        (Match(tool="pay"), False),
        (Match(server="ban*"), True),
        (Match(server="shop"), False),
        (Match(roles=frozenset({"support", "x"})), True),
        (Match(roles=frozenset({"admin"})), False),
        (Match(annotations={"destructiveHint": True}), True),
        (Match(annotations={"destructiveHint": True, "readOnlyHint": True}), False),
        (Match(tool="bank__*", roles=frozenset({"admin"})), False),
    ],
)
def test_a_rule_looks_only_at_the_calls_that_all_of_its_match_is_about(match: Match, looks: bool) -> None:
    decision = decide([Rule("r", Effect.DENY, match)], subject())
    assert (decision.effect is Effect.DENY) is looks


def test_every_matching_rule_that_asks_is_a_requirement_of_its_own_and_the_tightest_spans_count() -> None:
    slow = Rule("slow", Effect.REQUIRE_APPROVAL, approval=ApprovalTerms(2, frozenset({"finance"}), True, 900.0, 10.0))
    quick = Rule("quick", Effect.REQUIRE_APPROVAL, approval=ApprovalTerms(1, frozenset({"lead"}), False, 60.0, 90.0))
    decision = decide([slow, ASK, quick, ALLOW], subject())
    assert decision.rules == ("slow", "ask-finance", "quick")
    assert [need.digest for need in decision.requirements] == [slow.digest, ASK.digest, quick.digest]
    assert [need.min_verdicts for need in decision.requirements] == [2, 1, 1]
    assert decision.requirements[1].roles == DEFAULTS.roles
    assert (decision.expires_in_s, decision.execute_within_s) == (60.0, 10.0)


def test_the_reason_is_one_sentence_with_every_rule_and_its_reason() -> None:
    assert decide([DENY], subject()).reason == "Policy denies bank__pay: rule closed (Payments are closed)."
    assert (
        decide([ASK, Rule("other", Effect.REQUIRE_APPROVAL)], subject()).reason
        == "A person must approve bank__pay: rule ask-finance (Refunds over 100 need finance); rule other."
    )
    assert decide([ALLOW], subject()).reason == "Policy allows bank__pay: rule let-pass."


def test_a_condition_decides_by_the_arguments() -> None:
    rule = Rule("big", Effect.REQUIRE_APPROVAL, when="args.amount > 100")
    small = Rule("small", Effect.ALLOW, when="args.amount <= 100")
    assert decide([rule, small], subject({"amount": 100.5})).rules == ("big",)
    assert decide([rule, small], subject({"amount": 100})).rules == ("small",)


# --- failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "becomes"),
    [
        (Effect.DENY, Effect.DENY),
        (Effect.REQUIRE_APPROVAL, Effect.REQUIRE_APPROVAL),
        (Effect.ALLOW, Effect.REQUIRE_APPROVAL),
    ],
)
def test_a_rule_that_fails_to_evaluate_never_means_allow(effect: Effect, becomes: Effect) -> None:
    rule = Rule("r", effect, when="args.amount > 100")
    assert decide([rule], subject({})).effect is becomes


def test_a_failed_rule_is_named_with_its_cause() -> None:
    decision = decide([Rule("r", Effect.DENY, when="args.amount > 100")], subject({}))
    assert decision.reason == (
        'Policy denies bank__pay: rule r could not be evaluated (Key not found in map : "amount").'
    )


def test_a_failed_allow_rule_leaves_the_others_to_decide() -> None:
    rule = Rule("r", Effect.ALLOW, when="args.amount > 100")
    assert decide([rule], subject({}, annotations=READ_ONLY)).rules == ("preset:balanced",)


def test_a_rule_on_an_annotation_that_does_not_exist_has_failed() -> None:
    rule = Rule("r", Effect.DENY, Match(annotations={"destructive": True}))
    assert decide([rule], subject()).effect is Effect.DENY
    assert PolicySet(Preset.BALANCED, [rule], DEFAULTS).explain(subject()).considered[0].matched


@pytest.mark.parametrize("when", ["args.x ==", "args.x", "tool > 1", "principal.role == 'x'", "args.x.matches('[')"])
def test_a_rule_whose_condition_is_none_is_refused_when_the_config_is_loaded(when: str) -> None:
    with pytest.raises(RuleProblem) as refused:
        PolicySet(Preset.BALANCED, [ALLOW, Rule("broken", Effect.DENY, when=when)], DEFAULTS)
    assert refused.value.rule_id == "broken"
    assert refused.value.message.startswith("in `when`: ")
    assert str(refused.value) == f"rule broken: {refused.value.message}"


def test_two_rules_of_one_id_are_refused_when_the_config_is_loaded() -> None:
    with pytest.raises(RuleProblem) as refused:
        PolicySet(Preset.BALANCED, [ALLOW, Rule("let-pass", Effect.DENY)], DEFAULTS)
    assert refused.value.rule_id == "let-pass"


# --- observe ----------------------------------------------------------------------------------------------------


def test_observe_allows_what_a_rule_would_have_asked_and_says_so() -> None:
    decision = decide([ASK], subject(annotations=READ_ONLY), Preset.OBSERVE)
    assert decision.effect is Effect.ALLOW
    assert decision.would_ask
    assert decision.rules == ("ask-finance",)
    assert decision.requirements == ()
    assert "rule ask-finance (Refunds over 100 need finance)" in decision.reason


def test_observe_still_denies_what_a_failing_deny_rule_denies() -> None:
    rule = Rule("r", Effect.DENY, when="args.amount > 100")
    assert decide([rule], subject({}), Preset.OBSERVE).effect is Effect.DENY


def test_observe_allows_a_misfit_and_says_that_it_would_ask() -> None:
    decision = decide([ALLOW], subject(misfits=("let-pass",)), Preset.OBSERVE)
    assert decision.effect is Effect.ALLOW
    assert decision.would_ask


# --- misfits ----------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"amount": {"type": "number"}}, "additionalProperties": False}


def test_only_rules_about_the_tool_are_held_against_its_schema() -> None:
    rules = [
        Rule("typo", Effect.DENY, Match(tool="bank__*"), "args.amout > 1"),
        Rule("fits", Effect.DENY, Match(tool="bank__*"), "args.amount > 1"),
        Rule("elsewhere", Effect.DENY, Match(tool="shop__*"), "args.amout > 1"),
        Rule("other-server", Effect.DENY, Match(server="shop"), "args.amout > 1"),
        Rule("unconditional", Effect.DENY),
    ]
    policy = PolicySet(Preset.BALANCED, rules, DEFAULTS)
    assert policy.misfits("bank__pay", "bank", SCHEMA) == {
        "typo": "the tool has no argument amout; did you mean amount?"
    }


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("amount", [{}, {"amount": 1}])
def test_a_rule_that_does_not_fit_makes_the_call_ask(effect: Effect, amount: dict[str, Any]) -> None:
    rule = Rule("typo", effect, when="args.amout > 1")
    decision = decide([rule, ALLOW], subject(amount, annotations=READ_ONLY, misfits=("typo",)))
    assert decision.effect is Effect.REQUIRE_APPROVAL
    assert decision.rules == ("typo",)
    assert [need.digest for need in decision.requirements] == [rule.digest]


def test_a_deny_rule_that_does_not_fit_and_holds_nevertheless_denies() -> None:
    rule = Rule("typo", Effect.DENY, when="args.amout > 1 || args.amount > 1")
    assert decide([rule], subject({"amount": 2}, misfits=("typo",))).effect is Effect.DENY


def test_a_misfit_that_this_policy_does_not_know_asks_all_the_same() -> None:
    decision = decide([ALLOW], subject(misfits=("gone",)))
    assert decision.effect is Effect.REQUIRE_APPROVAL
    assert decision.requirements == decide([], subject(misfits=("gone",))).requirements


def test_a_rule_that_asks_and_does_not_fit_is_one_requirement() -> None:
    assert len(decide([ASK], subject(misfits=("ask-finance",))).requirements) == 1


# --- explain ----------------------------------------------------------------------------------------------------


def test_an_explanation_tells_of_every_rule_and_the_preset_what_it_came_to() -> None:
    rules = [
        Rule("tool", Effect.DENY, Match(tool="shop__*")),
        Rule("server", Effect.DENY, Match(server="shop")),
        Rule("roles", Effect.DENY, Match(roles=frozenset({"admin", "boss"}))),
        Rule("hints", Effect.DENY, Match(annotations={"readOnlyHint": True})),
        Rule("false", Effect.DENY, when="args.amount > 100"),
        Rule("true", Effect.REQUIRE_APPROVAL, when="args.amount > 10"),
        Rule("fails", Effect.ALLOW, when="args.note == 'x'"),
        Rule("all", Effect.ALLOW),
        Rule("typo", Effect.ALLOW, when="has(args.amout)"),
    ]
    policy = PolicySet(Preset.BALANCED, rules, DEFAULTS)
    about = subject({"amount": 50}, misfits=("typo",))
    explained = policy.explain(about)
    told = {line.rule: (line.matched, line.effect, line.why) for line in explained.considered}
    assert list(told) == [*(rule.id for rule in rules), "preset:balanced"]
    assert told["tool"] == (False, Effect.DENY, "match.tool shop__* is not about bank__pay")
    assert told["server"] == (False, Effect.DENY, "match.server shop is not about bank")
    assert told["roles"] == (False, Effect.DENY, "match.roles: anna holds none of admin, boss")
    assert told["hints"] == (False, Effect.DENY, "match.annotations: readOnlyHint is not true")
    assert told["false"] == (False, Effect.DENY, "when args.amount > 100 is false")
    assert told["true"] == (True, Effect.REQUIRE_APPROVAL, "when args.amount > 10 is true")
    assert told["fails"][:2] == (False, Effect.ALLOW)
    assert 'could not be evaluated: Key not found in map : "note"' in told["fails"][2]
    assert told["all"] == (True, Effect.ALLOW, "match covers the call")
    assert told["typo"][:2] == (True, Effect.REQUIRE_APPROVAL)
    assert told["preset:balanced"] == (False, Effect.REQUIRE_APPROVAL, "a rule decides")


def test_an_explanation_names_the_preset_where_it_decides() -> None:
    (line,) = PolicySet(Preset.BALANCED, [], DEFAULTS).explain(subject(annotations=READ_ONLY)).considered
    assert (line.matched, line.effect, line.why) == (True, Effect.ALLOW, "it is read-only")
