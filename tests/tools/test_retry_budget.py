"""The retry budget as a value: how many retries are left."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast_tools.downstream.budget import BudgetTerms, RetryBudget

TERMS = BudgetTerms(per_answer=0.1, per_second=2.0, capacity=5.0)


def emptied(now: float = 0.0) -> RetryBudget:
    return RetryBudget(TERMS, now, 0.0)


def test_it_begins_full_and_ends_empty() -> None:
    budget: RetryBudget | None = RetryBudget.full(TERMS, 0.0)
    for _ in range(5):
        assert budget is not None
        budget = budget.retried(0.0)
    assert budget is not None
    assert budget.retried(0.0) is None


def test_ten_answers_pay_for_one_retry() -> None:
    budget = emptied()
    for _ in range(9):
        budget = budget.answered()
    assert budget.retried(0.0) is None
    assert budget.answered().answered().retried(0.0) is not None


def test_time_pays_in_at_its_rate() -> None:
    assert emptied(10.0).retried(10.4) is None
    assert emptied(10.0).retried(10.5) is not None


def test_a_clock_that_goes_back_takes_nothing() -> None:
    assert emptied(10.0).now(9.0) == emptied(10.0)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from(("answered", "retried"))), max_size=200))
def test_retries_never_exceed_what_was_paid_in(events: list[tuple[float, str]]) -> None:
    budget, now, answers, retries = RetryBudget.full(TERMS, 0.0), 0.0, 0, 0
    for span_s, event in events:
        now += span_s
        if event == "answered":
            budget, answers = budget.answered(), answers + 1
        elif (left := budget.retried(now)) is not None:
            budget, retries = left, retries + 1
        assert 0.0 <= budget.retries <= TERMS.capacity
        paid_in = TERMS.capacity + answers * TERMS.per_answer + now * TERMS.per_second
        assert retries <= paid_in + 1e-6
