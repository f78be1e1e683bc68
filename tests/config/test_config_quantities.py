"""Durations, and which server a glob can be about."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_server.config.quantities import duration_words, seconds
from holdfast_server.config.tools import can_begin_with


@pytest.mark.parametrize(
    ("text", "span_s"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("10m", 600),
        ("4h", 14400),
        ("7d", 604800),
        ("1h30m", 5400),
        ("0s", 0),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, span_s: float) -> None:
    assert seconds(text) == span_s


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5S", "1h 30m", "5sec", "1e3s", "\u0665s"])
def test_nothing_else_is_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_span_in_words_reads_back_as_the_same_span(milliseconds: int) -> None:
    assert round(seconds(duration_words(milliseconds / 1000)) * 1000) == milliseconds


@given(st.text("ab_*?", max_size=8), st.text("ab", min_size=1, max_size=3), st.text("ab_", max_size=4))
def test_a_glob_that_matches_a_tool_can_begin_with_its_server(glob: str, server: str, tool: str) -> None:
    if fnmatchcase(f"{server}__{tool}", glob):
        assert can_begin_with(glob, f"{server}__")


@pytest.mark.parametrize("glob", ["git_*", "g?t__x", "[fg]it__*", "*", "*commit", "git__commit"])
def test_a_glob_that_might_fit_a_server_is_not_warned_of(glob: str) -> None:
    assert can_begin_with(glob, "git__")


@pytest.mark.parametrize("glob", ["gti__*", "git", "git_commit", "Git__*", "?git__x", ""])
def test_a_glob_that_cannot_fit_a_server_is_found_out(glob: str) -> None:
    assert not can_begin_with(glob, "git__")
