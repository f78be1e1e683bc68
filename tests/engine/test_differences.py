"""What a caller has otherwise than its engine, and whether it is newer."""

import pytest

from holdfast_server.engine.differences import differences, is_older
from holdfast_server.engine.hello import ADMIN, AGENT, Hello

ENGINE = Hello(AGENT, "digest", {"A": "1", "B": "1"}, version="1.2.0")


def test_who_brings_the_same_differs_in_nothing() -> None:
    found = differences(ENGINE, Hello(AGENT, "digest", {"A": "1", "B": "1"}, version="1.2.0"))
    assert (found.config, found.variables, found.version, found.outdated_by) == (False, (), None, frozenset())


def test_who_takes_the_engine_as_it_is_differs_in_nothing() -> None:
    found = differences(ENGINE, Hello(ADMIN, "", {}))
    assert (found.config, found.variables, found.version, found.outdated_by) == (False, (), None, frozenset())


def test_other_bytes_outdate_an_engine_and_other_values_of_variables_do_not() -> None:
    assert differences(ENGINE, Hello(AGENT, "other", {})).outdated_by == {"config"}
    found = differences(ENGINE, Hello(AGENT, "digest", {"A": "2", "B": "1"}))
    assert (found.variables, found.outdated_by) == (("A",), frozenset())


@pytest.mark.parametrize(
    ("version", "outdated_by"),
    [("1.3.0", {"version"}), ("1.10", {"version"}), ("1.2.0+local", {"version"}), ("1.1.9", set()), ("0", set())],
)
def test_a_version_that_is_not_older_outdates_an_engine(version: str, outdated_by: set[str]) -> None:
    found = differences(ENGINE, Hello(AGENT, "digest", dict(ENGINE.variables), version=version))
    assert (found.version, found.outdated_by) == (version, outdated_by)


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("0.9", "0.10", True),
        ("1.0", "1.0.0", False),
        ("1.0.0", "1.0", False),
        ("1.0rc1", "1.0", False),
        ("2", "1.9", False),
        ("no numbers", "0.1", True),
    ],
)
def test_releases_are_compared_by_their_numbers(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older
