"""What is wrong with rules that compile."""

import pytest

from holdfast_policy.lint import lint
from holdfast_policy.values import ApprovalTerms, Effect, Match, Preset, Rule
from holdfast_store.model.values import Principal

DEFAULTS = ApprovalTerms()


def problems(*rules: Rule, roles: frozenset[str] = frozenset(), defaults: ApprovalTerms = DEFAULTS) -> list[str]:
    return [str(problem) for problem in lint(Preset.BALANCED, rules, defaults, roles)]


def asking(terms: ApprovalTerms) -> Rule:
    return Rule("r", Effect.REQUIRE_APPROVAL, approval=terms)


def test_good_rules_have_no_problems() -> None:
    assert (
        problems(
            Rule("a", Effect.DENY, Match(tool="bank__*", annotations={"readOnlyHint": False}), "args.amount > 1"),
            Rule("b", Effect.REQUIRE_APPROVAL, approval=ApprovalTerms(roles=frozenset({"finance", "boss"}))),
            Rule("c", Effect.ALLOW, when="has(args.x) || tool == 'a__b'"),
            roles=frozenset({"finance"}),
        )
        == []
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("", Effect.DENY), "it has no id"),
        (Rule("preset:balanced", Effect.DENY), "the presets' own"),
        (Rule("r", Effect.DENY, Match(tool="")), "match.tool is empty"),
        (Rule("r", Effect.DENY, Match(server="")), "match.server is empty"),
        (
            Rule("r", Effect.DENY, Match(annotations={"readonlyhint": True})),
            "there is no annotation readonlyhint; did you mean readOnlyHint?",
        ),
        (Rule("r", Effect.DENY, approval=ApprovalTerms()), "its effect is deny"),
        (Rule("r", Effect.ALLOW, approval=ApprovalTerms()), "its effect is allow"),
        (asking(ApprovalTerms(expires_in_s=0.0)), "expires_in must be longer"),
        (asking(ApprovalTerms(expires_in_s=float("nan"))), "expires_in must be longer"),
        (asking(ApprovalTerms(execute_within_s=-1.0)), "execute_within must be longer"),
        (asking(ApprovalTerms(min_verdicts=0)), "an approval by nobody"),
        (asking(ApprovalTerms(roles=frozenset())), "it names no role"),
        (
            asking(ApprovalTerms(roles=frozenset({"aprover"}))),
            "nobody can approve: no principal holds aprover; did you mean approver?",
        ),
        (Rule("r", Effect.DENY, when="true"), "`when` is true for every call"),
        (Rule("r", Effect.DENY, when="1 > 2"), "`when` is false for every call"),
        (Rule("r", Effect.DENY, when="args.x > 1 && false"), "`when` is false for every call"),
        (Rule("r", Effect.DENY, when="args.x > 1 || !false"), "`when` is true for every call"),
        (Rule("r", Effect.DENY, when="'a'.matches('b')"), "`when` is false for every call"),
        (Rule("r", Effect.DENY, when="1 / 0 == 1"), "`when` fails for every call: divide by zero"),
    ],
)
def test_a_rule_that_does_nothing_or_too_much_is_a_problem(rule: Rule, message: str) -> None:
    (problem,) = problems(rule)
    assert problem.startswith(f"rule {rule.id}: ")
    assert message in problem


def test_an_id_that_two_rules_have_is_told_once() -> None:
    told = problems(Rule("a", Effect.DENY), Rule("a", Effect.ALLOW), Rule("a", Effect.ALLOW), Rule("b", Effect.DENY))
    assert told == ["rule a: 3 rules have this id; give each its own"]


def test_the_operator_can_satisfy_what_asks_for_an_approver_or_an_admin() -> None:
    for role in ("approver", "admin"):
        assert problems(asking(ApprovalTerms(roles=frozenset({role})))) == []


def test_more_verdicts_than_people_who_hold_the_roles_are_a_problem() -> None:
    people = [Principal("anna", frozenset({"finance"})), Principal("bert", frozenset({"finance", "approver"}))]

    def told(min_verdicts: int, *roles: str) -> list[str]:
        rule = asking(ApprovalTerms(min_verdicts=min_verdicts, roles=frozenset(roles)))
        held = frozenset({"finance", "approver"})
        return [problem.message for problem in lint(Preset.BALANCED, [rule], DEFAULTS, held, principals=people)]

    assert told(2, "finance") == []
    assert told(2, "approver") == []  # the operator is one of them
    assert told(3, "finance", "approver") == []
    assert told(3, "finance") == [
        "nobody can approve: it needs 3 people who hold finance, and there are 2;"
        " ask for fewer, or give more principals the role"
    ]


def test_how_many_hold_a_role_is_not_guessed_where_it_is_not_known() -> None:
    assert problems(asking(ApprovalTerms(min_verdicts=9))) == []


def test_default_terms_are_held_to_the_same() -> None:
    terms = ApprovalTerms(min_verdicts=0, roles=frozenset({"nobody"}), expires_in_s=0.0, execute_within_s=0.0)
    assert len(problems(defaults=terms)) == 4
    assert all(problem.startswith("rule approval_defaults: ") for problem in problems(defaults=terms))


def test_a_condition_that_does_not_compile_is_left_to_the_compiler() -> None:
    assert problems(Rule("r", Effect.DENY, when="args.x ==")) == []
