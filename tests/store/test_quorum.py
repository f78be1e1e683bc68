"""The quorum as a pure function: what verdicts amount to."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast_store.model.quorum import counts, satisfied, tally
from holdfast_store.model.values import ApprovalStatus, Requirement, Verdict, VerdictKind

PEOPLE = ("ada", "bob", "cyd", "dan")
ROLES = ("approver", "finance", "legal")

people = st.sampled_from(PEOPLE)
roles = st.frozensets(st.sampled_from(ROLES))
requirements = st.builds(
    Requirement,
    rule=st.just("r"),
    digest=st.just("d"),
    min_verdicts=st.integers(1, 3),
    roles=st.frozensets(st.sampled_from(ROLES), min_size=1),
    prevent_self_review=st.booleans(),
)
verdicts = st.builds(
    Verdict,
    principal=people,
    roles=roles,
    kind=st.sampled_from(VerdictKind),
    comment=st.just(""),
    at=st.just(0.0),
)
one_each = st.lists(verdicts, max_size=4, unique_by=lambda verdict: verdict.principal)
demands = st.lists(requirements, min_size=1, max_size=3)
requesters = st.lists(people, max_size=2, unique=True)


def verdict(principal: str, kind: VerdictKind = VerdictKind.APPROVE, *held: str) -> Verdict:
    return Verdict(principal, frozenset(held or ("approver",)), kind, "", 0.0)


NEED = Requirement("r", "d")


def test_one_approval_of_an_approver_is_enough_by_default() -> None:
    assert tally([NEED], [verdict("ada")], ["bob"]) is ApprovalStatus.APPROVED


def test_the_requester_does_not_count() -> None:
    assert not counts(NEED, verdict("bob"), ["bob"])
    assert tally([NEED], [verdict("bob")], ["bob"]) is ApprovalStatus.PENDING
    assert tally([NEED], [verdict("bob", VerdictKind.REJECT)], ["bob"]) is ApprovalStatus.PENDING


def test_the_requester_counts_where_the_rule_allows_it() -> None:
    assert counts(Requirement("r", "d", prevent_self_review=False), verdict("bob"), ["bob"])


def test_the_same_person_twice_is_one() -> None:
    assert not satisfied(Requirement("r", "d", min_verdicts=2), [verdict("ada"), verdict("ada")], [])


def test_each_requirement_must_be_satisfied_on_its_own() -> None:
    needs = [NEED, Requirement("money", "d", roles=frozenset({"finance"}))]
    assert tally(needs, [verdict("ada")], []) is ApprovalStatus.PENDING
    both = verdict("ada", VerdictKind.APPROVE, "approver", "finance")
    assert tally(needs, [both], []) is ApprovalStatus.APPROVED


def test_one_counting_rejection_outweighs_all_approvals() -> None:
    assert tally([NEED], [verdict("ada"), verdict("bob", VerdictKind.REJECT)], []) is ApprovalStatus.REJECTED


def test_a_rejection_without_a_fitting_role_changes_nothing() -> None:
    stranger = verdict("bob", VerdictKind.REJECT, "intern")
    assert tally([NEED], [verdict("ada"), stranger], []) is ApprovalStatus.APPROVED


@given(demands, one_each, requesters)
def test_the_order_of_verdicts_does_not_matter(
    needs: list[Requirement], given: list[Verdict], asked: list[str]
) -> None:
    assert tally(needs, given, asked) is tally(needs, given[::-1], asked)


@given(demands, one_each, requesters)
def test_verdicts_that_count_nowhere_do_not_matter(
    needs: list[Requirement], given: list[Verdict], asked: list[str]
) -> None:
    counting = [each for each in given if any(counts(need, each, asked) for need in needs)]
    assert tally(needs, given, asked) is tally(needs, counting, asked)


@given(demands, one_each, requesters)
def test_approved_means_that_each_requirement_has_its_people(
    needs: list[Requirement], given: list[Verdict], asked: list[str]
) -> None:
    approved = tally(needs, given, asked) is ApprovalStatus.APPROVED
    enough = all(
        len({v.principal for v in given if v.kind is VerdictKind.APPROVE and counts(need, v, asked)})
        >= need.min_verdicts
        for need in needs
    )
    rejected = any(v.kind is VerdictKind.REJECT and counts(need, v, asked) for v in given for need in needs)
    assert approved is (enough and not rejected)


@given(demands, one_each, requesters, verdicts)
def test_another_verdict_never_undoes_a_rejection(
    needs: list[Requirement], given: list[Verdict], asked: list[str], more: Verdict
) -> None:
    if tally(needs, given, asked) is ApprovalStatus.REJECTED:
        assert tally(needs, [*given, more], asked) is ApprovalStatus.REJECTED


@given(demands, st.lists(verdicts.filter(lambda each: each.kind is VerdictKind.APPROVE), max_size=4), requesters)
def test_without_a_requester_among_them_strict_and_lax_rules_agree(
    needs: list[Requirement], given: list[Verdict], asked: list[str]
) -> None:
    others = [each for each in given if each.principal not in asked]
    lax = [Requirement(n.rule, n.digest, n.min_verdicts, n.roles, prevent_self_review=False) for n in needs]
    assert tally(needs, others, asked) is tally(lax, others, asked)
