"""Tables that fit, times people can read, and timelines."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_server.cli.output import Column, fields, moment_words, printable, span, table
from holdfast_server.cli.timeline import EVENT_WORDS, detail_words, elapsed, event_words, timeline
from holdfast_store.model.lifecycle import Event

ID = "0123456789abcdef0123456789abcdef"
COLUMNS = (Column("call", kept=True), Column("status", kept=True), Column("tool"), Column("age", kept=True))


def test_a_table_fits_80_columns_and_never_breaks_an_id_or_a_state() -> None:
    drawn = table(COLUMNS, [(ID, "waiting_for_approval", "server_of_long_name__tool_of_a_longer_name", "12m")], 80)
    lines = drawn.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(ID in line and "waiting_for_approval" in line and "12m" in line for line in lines)


def test_without_a_terminal_every_row_is_one_line_without_colours() -> None:
    drawn = table(COLUMNS, [(ID, "done", "s" * 200, "1s"), (ID, "failed", "t", "2s")])
    assert len(drawn.splitlines()) == 3
    assert "\x1b" not in drawn


def test_markup_in_a_cell_is_text() -> None:
    assert "[red]x[/red]" in table((Column("a"),), [("[red]x[/red]",)], 80)


def test_control_characters_never_reach_the_terminal() -> None:
    assert "\x1b" not in table((Column("a"),), [("\x1b[2Jgone",)], 80)
    assert "\x1b" not in fields([("a", "\x1b]0;title\x07")])
    assert printable("a\x9bb\u202ec") == "a\ufffdb\ufffdc"


def test_fields_are_aligned_and_empty_ones_left_out() -> None:
    assert fields([("a", "1"), ("long", "2\n3"), ("none", "")]) == "a     1\nlong  2\n      3"


@pytest.mark.parametrize(
    ("span_s", "words"),
    [(0, "0s"), (59, "59s"), (119, "119s"), (120, "2m"), (3600, "1h"), (7199, "119m"), (200000, "2d")],
)
def test_a_span_is_shown_in_its_largest_fitting_unit(span_s: float, words: str) -> None:
    assert span(span_s) == words


def test_a_moment_is_shown_both_ways() -> None:
    assert moment_words("2026-11-22T10:00:00.000Z", now=1795341780.0) == "2026-11-22 10:00:00 UTC (3m ago)"
    assert moment_words("2026-11-22T10:00:00.000Z", now=1795341600.0 - 7200) == "2026-11-22 10:00:00 UTC (in 2h)"


@pytest.mark.parametrize(
    ("span_s", "words"),
    [
        (0, "+0.00s"),
        (-1, "+0.00s"),
        (9.876, "+9.88s"),
        (12.34, "+12.3s"),
        (192, "+3m12s"),
        (7500, "+2h05m"),
        (97200, "+1d03h"),
    ],
)
def test_time_since_the_first_entry_is_short(span_s: float, words: str) -> None:
    assert elapsed(span_s) == words


def test_every_event_of_the_lifecycle_has_words() -> None:
    assert set(EVENT_WORDS) == set(Event)
    assert event_words("claim", 2) == "attempt 2 begins"
    assert event_words("not_sent", 1) == "not sent"


def test_a_timeline_has_one_line_per_entry() -> None:
    entries = [
        {
            "at": "2026-11-22T10:00:00.000Z",
            "event": "park",
            "state": "waiting_for_approval",
            "attempt": 0,
            "actor": "agent",
            "detail": {"rules": ["refunds-over-100"], "note": None},
        },
        {
            "at": "2026-11-22T10:03:12.000Z",
            "event": "approve",
            "state": "queued",
            "attempt": 0,
            "actor": "anna",
            "detail": {"comment": "checked\nwith \x1b[1mthe customer"},
        },
        {
            "at": "2026-11-22T10:03:12.500Z",
            "event": "claim",
            "state": "running",
            "attempt": 1,
            "actor": "engine",
            "detail": {},
        },
    ]
    assert timeline(entries).splitlines() == [
        "+0.00s  waits for approval  by agent   rules: refunds-over-100",
        "+3m12s  approved, queued    by anna    comment: checked with \ufffd[1mthe customer",
        "+3m12s  attempt 1 begins    by engine",
    ]


def test_a_timeline_that_was_purged_says_so() -> None:
    assert "no longer kept" in timeline([])


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers() | st.lists(st.text()), max_size=4))
def test_a_detail_is_always_one_line_of_bounded_length(detail: dict[str, object]) -> None:
    words = detail_words(detail)
    assert len(words) <= 200
    assert len(words.splitlines()) <= 1


def test_the_docs_show_a_timeline_as_it_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for event, attempt in (("park", 0), ("approve", 0), ("claim", 1), ("settle", 1)):
        assert event_words(event, attempt) in page
