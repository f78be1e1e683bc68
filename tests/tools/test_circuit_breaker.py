"""The circuit breaker as a value: when calls pass, and when one goes first."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast_tools.downstream.breaker import Breaker, BreakerTerms

TERMS = BreakerTerms(failures_to_open=3, first_pause_s=1.0, longest_pause_s=8.0)

EVENTS = st.lists(
    st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 1.0), st.sampled_from(("lost", "answered", "ask", "unsent"))),
    max_size=60,
)


def opened(now: float = 100.0, drawn: float = 1.0) -> Breaker:
    breaker = Breaker(TERMS)
    for _ in range(TERMS.failures_to_open):
        breaker = breaker.lost(now, drawn, "no answer", probe=False)
    return breaker


def test_it_opens_on_losses_in_a_row_and_not_before() -> None:
    breaker = Breaker(TERMS)
    for _ in range(TERMS.failures_to_open - 1):
        breaker = breaker.lost(100.0, 1.0, "no answer", probe=False)
    assert (breaker.state, breaker.passes(100.0)) == ("closed", True)
    assert breaker.answered(100.0, probe=False).failures == 0
    breaker = breaker.lost(100.0, 1.0, "no answer", probe=False)
    assert (breaker.state, breaker.passes(100.0), breaker.wait_s(100.0)) == ("open", False, 1.0)
    assert (breaker.since, breaker.reason) == (100.0, "no answer")


def test_after_the_pause_exactly_one_call_passes() -> None:
    breaker = opened(100.0)
    assert not breaker.passes(100.99)
    assert breaker.passes(101.0)
    probing = breaker.probing(101.0, 1.0)
    assert (probing.state, probing.passes(101.0), probing.passes(101.99)) == ("half_open", False, False)


def test_a_probe_that_is_answered_closes_it_and_one_that_is_lost_doubles_the_pause() -> None:
    probing = opened(100.0).probing(101.0, 1.0)
    assert probing.answered(102.0, probe=True).state == "closed"
    pauses, breaker = [], probing
    for _ in range(5):
        breaker = breaker.lost(200.0, 1.0, "no answer", probe=True)
        pauses.append(breaker.wait_s(200.0))
    assert pauses == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_once_it_closed_it_begins_anew() -> None:
    breaker = opened().probing(101.0, 1.0).lost(101.5, 1.0, "no answer", probe=True).answered(110.0, probe=True)
    assert breaker == Breaker(TERMS, since=110.0)


def test_answers_to_what_was_sent_before_it_opened_tell_nothing() -> None:
    breaker = opened()
    assert breaker.answered(100.5, probe=False) == breaker
    assert breaker.lost(100.5, 0.0, "another", probe=False) == breaker


def test_a_probe_that_was_not_sent_lets_the_next_call_be_one() -> None:
    breaker = opened(100.0).probing(101.0, 1.0).unsent(101.5)
    assert (breaker.state, breaker.passes(101.5), breaker.openings) == ("open", True, 1)


def test_a_probe_that_hangs_does_not_hold_up_the_next_one_for_ever() -> None:
    probing = opened(100.0).probing(101.0, 1.0)
    assert probing.passes(102.0)
    again = probing.probing(102.0, 1.0)
    assert (again.since, again.passes(102.5)) == (101.0, False)


@given(EVENTS)
def test_whatever_happens_pauses_are_bounded_and_nothing_passes_within_one(
    events: list[tuple[float, float, str]],
) -> None:
    breaker, now, probing = Breaker(TERMS), 0.0, False
    for span_s, drawn, event in events:
        now += span_s
        before = breaker
        if event == "ask":
            if breaker.passes(now) and breaker.state != "closed":
                breaker, probing = breaker.probing(now, drawn), True
                assert not breaker.passes(now)
        elif event == "lost":
            breaker = breaker.lost(now, drawn, "no answer", probe=probing)
            probing = False
        elif event == "answered":
            breaker = breaker.answered(now, probe=probing)
            assert breaker.state == "closed" or not probing
            probing = False
        else:
            breaker, probing = breaker.unsent(now), False
        assert 0.0 <= breaker.wait_s(now) <= TERMS.longest_pause_s
        assert (breaker.wait_s(now) == 0.0) == breaker.passes(now)
        if breaker.state == "open" and before.state != "open" and event == "lost":
            assert breaker.wait_s(now) >= TERMS.first_pause_s / 2
