"""Whether an earlier approval covers a call under today's decision."""

from dataclasses import replace

import pytest

from holdfast_policy.admission import still_satisfied
from holdfast_policy.annotations import Annotations
from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Decision, Effect, Preset, Rule, Subject
from holdfast_store.model.values import LOCAL, Approval, ApprovalStatus, Requirement, Verdict, VerdictKind

SUBJECT = Subject("bank__pay", "bank", Annotations(), LOCAL, {"amount": 500})
RULE = Rule("big", Effect.REQUIRE_APPROVAL, when="args.amount > 100")
FINANCE = ApprovalTerms(roles=frozenset({"finance"}))


def today(*rules: Rule, preset: Preset = Preset.BALANCED, defaults: ApprovalTerms | None = None) -> Decision:
    return PolicySet(preset, rules, defaults or ApprovalTerms()).decide(SUBJECT)


def verdict(principal: str = "anna", *roles: str, kind: VerdictKind = VerdictKind.APPROVE) -> Verdict:
    return Verdict(principal, frozenset(roles or ("approver",)), kind, "", 0.0)


def approval(decision: Decision, *verdicts: Verdict, requesters: tuple[str, ...] = ("local",)) -> Approval:
    return Approval(
        id="a1",
        requirements=decision.requirements,
        arguments_hash="h",
        definition="d",
        reason=decision.reason,
        expires_in_s=60.0,
        execute_within_s=60.0,
        call_id="c1",
        tenant="default",
        tool=SUBJECT.tool,
        requesters=requesters,
        arguments=SUBJECT.arguments,
        status=ApprovalStatus.APPROVED,
        created_at=0.0,
        expires_at=60.0,
        verdicts=verdicts,
    )


def test_unchanged_rules_are_still_satisfied() -> None:
    assert still_satisfied(today(RULE), approval(today(RULE), verdict()))
    assert still_satisfied(today(), approval(today(), verdict()))


def test_a_deny_added_since_wins_and_an_allow_needs_nothing() -> None:
    given = approval(today(RULE), verdict())
    assert not still_satisfied(today(RULE, Rule("closed", Effect.DENY)), given)
    assert still_satisfied(today(Rule("open", Effect.ALLOW)), approval(today(RULE)))
    assert still_satisfied(today(RULE, preset=Preset.OBSERVE), approval(today(RULE)))


@pytest.mark.parametrize(
    "changed",
    [
        replace(RULE, when="args.amount > 50"),
        replace(RULE, id="bigger"),
        replace(RULE, approval=ApprovalTerms()),
    ],
)
def test_a_rule_whose_text_changed_asks_again(changed: Rule) -> None:
    assert not still_satisfied(today(changed), approval(today(RULE), verdict()))


def test_a_changed_reason_does_not_ask_again() -> None:
    assert still_satisfied(today(replace(RULE, reason="Finance must see it")), approval(today(RULE), verdict()))


def test_a_rule_added_since_asks_again_and_one_removed_does_not() -> None:
    other = Rule("other", Effect.REQUIRE_APPROVAL)
    assert not still_satisfied(today(RULE, other), approval(today(RULE), verdict()))
    assert still_satisfied(today(RULE), approval(today(RULE, other), verdict()))


def test_defaults_that_ask_for_more_ask_again_and_those_that_ask_for_less_do_not() -> None:
    strict = ApprovalTerms(min_verdicts=2)
    given = approval(today(RULE), verdict())
    assert not still_satisfied(today(RULE, defaults=strict), given)
    assert not still_satisfied(today(RULE, defaults=FINANCE), given)
    both = approval(today(RULE, defaults=strict), verdict(), verdict("bert"))
    assert still_satisfied(today(RULE), both)


def test_another_preset_asks_again() -> None:
    assert not still_satisfied(today(preset=Preset.STRICT), approval(today(), verdict()))


@pytest.mark.parametrize(
    "verdicts",
    [
        (),
        (verdict("local"),),
        (verdict("anna", "guest"),),
        (verdict("anna", kind=VerdictKind.REJECT),),
    ],
)
def test_verdicts_that_do_not_count_satisfy_nothing(verdicts: tuple[Verdict, ...]) -> None:
    assert not still_satisfied(today(RULE), approval(today(RULE), *verdicts))


def test_whoever_resumed_the_call_counts_as_a_requester() -> None:
    assert not still_satisfied(today(RULE), approval(today(RULE), verdict(), requesters=("local", "anna")))


def test_a_decision_that_asks_for_nothing_in_particular_is_never_satisfied() -> None:
    empty = Decision(Effect.REQUIRE_APPROVAL, ("r",), "Asks.")
    assert not still_satisfied(empty, approval(today(RULE), verdict()))


def test_each_requirement_needs_its_own_role() -> None:
    needs = (Requirement("a", "da"), Requirement("b", "db", roles=frozenset({"finance"})))
    decision = Decision(Effect.REQUIRE_APPROVAL, ("a", "b"), "Asks.", requirements=needs)
    assert not still_satisfied(decision, approval(decision, verdict()))
    assert still_satisfied(decision, approval(decision, verdict(), verdict("bert", "finance")))
