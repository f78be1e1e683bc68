"""The gate of a downstream: places, the queue before them, and what attempts tell the breaker."""

from typing import Any

import pytest

from holdfast_tools.downstream.attempt import Answered, Lost, NotSent
from holdfast_tools.downstream.breaker import BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms
from holdfast_tools.downstream.gate import Gate, GateTerms, Place, TurnedAway, Waits

CUT = Lost("the connection ended")
LATE = Lost("no answer in time", timed_out=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    terms = GateTerms(2, 2, BreakerTerms(failures_to_open=3), BudgetTerms(capacity=1.0))
    return Gate("ledger", terms, clock, clock)


def entered(gate: Gate) -> Place:
    place = gate.take()
    assert place is not None
    return place


def broken(gate: Gate) -> None:
    for _ in range(3):
        entered(gate).leave(LATE)


def test_calls_enter_then_wait_then_are_turned_away(gate: Gate) -> None:
    answers = [gate.ask(f"call-{number}") for number in range(5)]
    assert [type(answer) for answer in answers] == [Place, Place, Waits, Waits, TurnedAway]
    assert answers[2] == Waits("2 of 2 places at the downstream 'ledger' are taken, and others wait: 0")
    assert isinstance(answers[4], TurnedAway)
    assert (answers[4].cause, answers[4].retry_after_s) == ("overloaded", 1)
    assert (gate.status.under_way, gate.status.queued) == (2, 2)


def test_who_comes_later_does_not_overtake_who_waits(gate: Gate) -> None:
    first, _, _ = gate.ask("a"), gate.ask("b"), gate.ask("c")
    assert isinstance(first, Place)
    first.leave(Answered())
    assert isinstance(gate.ask("d"), Waits)
    assert gate.take() is None
    assert isinstance(gate.begin("c"), Place)
    assert gate.begin("d") is None


def test_a_place_is_given_back_once(gate: Gate) -> None:
    place = entered(gate)
    place.leave(None)
    place.leave(None)
    assert gate.status.under_way == 0


def test_when_to_come_back_follows_from_how_long_attempts_take(gate: Gate, clock: Clock) -> None:
    for _ in range(60):
        place = entered(gate)
        clock.now += 10.0
        place.leave(Answered())
    for number in range(4):
        gate.ask(f"call-{number}")
    away = gate.ask("one too many")
    assert isinstance(away, TurnedAway)
    assert away.retry_after_s == 15


def test_all_that_a_cut_connection_takes_along_is_one_loss(gate: Gate) -> None:
    together = entered(gate), entered(gate)
    for place in together:
        place.leave(CUT)
    assert gate.status.failures == 1
    entered(gate).leave(CUT)
    assert gate.status.failures == 2


@pytest.mark.parametrize("attempt", [None, NotSent("it cannot be reached")])
def test_what_was_not_sent_or_given_up_tells_nothing(gate: Gate, attempt: Any) -> None:
    entered(gate).leave(LATE)
    entered(gate).leave(attempt)
    assert gate.status.failures == 1


def test_a_tools_error_is_an_answer(gate: Gate) -> None:
    entered(gate).leave(LATE)
    entered(gate).leave(Answered(error={"code": -32000, "message": "no"}))
    assert gate.status.failures == 0


def test_while_it_is_broken_newcomers_are_told_when_it_is_tried_again(gate: Gate, clock: Clock) -> None:
    broken(gate)
    away = gate.ask("a")
    assert isinstance(away, TurnedAway)
    assert (away.cause, away.retry_after_s) == ("breaker_open", 1)
    assert "no answer in time" in away.reason
    assert gate.begin("admitted") is None
    assert isinstance(gate.wait("admitted"), TurnedAway)
    assert gate.wait("admitted") is None
    assert (gate.status.breaker, gate.status.breaker_since) == ("open", clock.now)


def test_when_the_pause_is_over_one_call_goes_first_and_its_answer_lets_the_others_in(gate: Gate, clock: Clock) -> None:
    early = entered(gate)
    broken(gate)
    assert not early.may_send
    clock.now += 1.0
    probe = gate.ask("a")
    assert isinstance(probe, Place)
    assert (probe.is_probe, probe.may_send, gate.status.breaker) == (True, True, "half_open")
    early.leave(Answered())
    assert isinstance(gate.ask("b"), TurnedAway)
    probe.leave(Answered())
    assert isinstance(gate.ask("c"), Place)
    assert gate.status.breaker == "closed"


def test_who_waits_goes_first_when_the_pause_is_over(gate: Gate, clock: Clock) -> None:
    broken(gate)
    gate.wait("admitted")
    clock.now += 1.0
    assert isinstance(gate.ask("newcomer"), TurnedAway)
    place = gate.begin("admitted")
    assert place is not None
    assert place.is_probe


def test_the_budget_is_used_up_and_says_so(gate: Gate) -> None:
    assert gate.may_retry()
    assert not gate.may_retry()
    assert "retry budget of 'ledger' is used up (10% of what it answers and 2 per second)" in gate.why_no_retry
    assert gate.status.retries_left == 0


def test_who_waits_for_its_turn_keeps_nobody_from_a_place_and_is_bounded_apart(gate: Gate) -> None:
    assert [gate.may_line_up(f"call-{number}") for number in range(3)] == [True, True, False]
    assert isinstance(gate.ask("other"), Place)
    assert (gate.status.queued, gate.status.in_line) == (0, 2)
    assert gate.lines_full.cause == "overloaded"
    gate.leave_line("call-0")
    assert gate.may_line_up("call-3")


def test_who_waited_for_its_turn_then_waits_for_a_place_like_others(gate: Gate) -> None:
    first, _ = entered(gate), entered(gate)
    gate.line_up("next")
    assert isinstance(gate.wait("next"), Waits)
    assert (gate.status.queued, gate.status.in_line) == (1, 0)
    first.leave(Answered())
    assert gate.begin("next") is not None
    assert (gate.status.queued, gate.status.in_line) == (0, 0)


def test_an_admitted_call_waits_for_its_turn_whatever_the_bound(gate: Gate) -> None:
    for number in range(5):
        gate.line_up(f"call-{number}")
    assert gate.status.in_line == 5
    gate.forget("call-0")
    assert gate.status.in_line == 4
