"""Effective annotations: the operator's word, else a trusted hint, else the worst."""

from itertools import product

import pytest

from holdfast_policy.annotations import HINTS, Annotations, effective


def test_a_tool_of_which_nothing_is_known_is_taken_for_the_worst() -> None:
    assert effective({}, None, None) == Annotations(
        read_only=False, destructive=True, idempotent=False, open_world=True, marked=frozenset()
    )


def test_by_default_a_server_is_believed_that_a_tool_is_harmless_and_no_more() -> None:
    hints = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
    found = effective({}, hints, None)
    assert found.read_only
    assert not found.destructive
    assert not found.idempotent
    assert found.open_world


def test_named_trust_replaces_the_default() -> None:
    hints = {"readOnlyHint": True, "idempotentHint": True}
    found = effective({}, hints, frozenset({"idempotentHint"}))
    assert not found.read_only
    assert found.idempotent


def test_a_hint_that_is_no_boolean_is_no_hint() -> None:
    assert effective({}, {"readOnlyHint": "true", "destructiveHint": 0}, None) == effective({}, None, None)


def test_the_operator_overrides_every_hint_and_is_remembered() -> None:
    found = effective({"readOnlyHint": False, "idempotentHint": True}, {"readOnlyHint": True}, None)
    assert not found.read_only
    assert found.destructive
    assert found.retry_safe
    assert found.marked == {"readOnlyHint", "idempotentHint"}


def test_a_tool_that_the_operator_calls_destructive_is_not_read_only_on_the_servers_word() -> None:
    found = effective({"destructiveHint": True}, {"readOnlyHint": True}, None)
    assert found.destructive
    assert not found.read_only
    assert not found.retry_safe


@pytest.mark.parametrize("values", list(product((True, False), repeat=4)))
def test_each_hint_is_found_by_its_name(values: tuple[bool, bool, bool, bool]) -> None:
    annotations = Annotations(*values)
    assert tuple(annotations.hint(name) for name in HINTS) == values


def test_a_name_that_is_no_hint_is_an_error() -> None:
    with pytest.raises(KeyError):
        Annotations().hint("readonlyHint")
