"""Which calls of a tool share a line, and whether its schema knows what they are told apart by."""

from typing import Any

import pytest

from holdfast_tools.ordering import leads_nowhere, line_of
from holdfast_tools.settings import Order

CONTACT = {"type": "object", "properties": {"contact": {"type": "object", "properties": {"id": {}}}}}


def line(arguments: dict[str, Any], by: str | None = "/contact/id", **of: str) -> str | None:
    whose = {"tenant": "default", "downstream": "crm", "tool": "update", **of}
    return line_of(Order(by), arguments=arguments, **whose)


def contact(value: Any) -> dict[str, Any]:
    return {"contact": {"id": value}}


def test_a_tool_without_an_order_has_no_lines() -> None:
    assert line_of(None, tenant="default", downstream="crm", tool="update", arguments=contact(1)) is None


def test_calls_with_the_same_value_share_a_line_whatever_else_they_say() -> None:
    assert line(contact(1)) == line({**contact(1), "name": "Zoë"})
    assert line(contact({"a": 1, "b": [2]})) == line(contact({"b": [2], "a": 1}))


@pytest.mark.parametrize("other", ["1", 1.0, 2, True, [1], {"id": 1}, None])
def test_other_values_have_other_lines(other: Any) -> None:
    assert line(contact(1)) != line(contact(other))


@pytest.mark.parametrize("nothing", [{}, {"contact": {}}, {"contact": "anna"}, {"contact": {"id": None}}])
def test_calls_without_a_value_share_one(nothing: dict[str, Any]) -> None:
    assert line(nothing) == line({})


@pytest.mark.parametrize("of", [{"tenant": "other"}, {"downstream": "other"}, {"tool": "other"}])
def test_a_line_is_of_one_tool_of_one_tenant(of: dict[str, str]) -> None:
    assert line(contact(1)) != line(contact(1), **of)


def test_by_nothing_all_calls_of_the_tool_share_one() -> None:
    assert line(contact(1), by=None) == line({}, by=None)
    assert line({}, by=None) != line({})


def test_a_value_is_found_behind_escapes_and_in_lists() -> None:
    assert line({"a/b": [{"c~d": 1}]}, by="/a~1b/0/c~0d") == line(contact(1), by="/contact/id")


@pytest.mark.parametrize(
    ("by", "schema", "nowhere"),
    [
        ("/contact/id", CONTACT, False),
        ("/contact/name", CONTACT, True),
        ("/kontakt", CONTACT, True),
        ("/contact/id/x", CONTACT, False),
        ("/other", {**CONTACT, "additionalProperties": True}, False),
        ("/other/x", {**CONTACT, "additionalProperties": CONTACT}, True),
        ("/other", {**CONTACT, "patternProperties": {"^o": {}}}, False),
        ("/other", {**CONTACT, "anyOf": [CONTACT]}, False),
        ("/all/0/contact", {"properties": {"all": {"items": CONTACT}}}, False),
        ("/all/0/other", {"properties": {"all": {"items": CONTACT}}}, True),
        ("/one/contact", {"properties": {"one": {"$ref": "#/$defs/c"}}, "$defs": {"c": CONTACT}}, False),
        ("/one/other", {"properties": {"one": {"$ref": "#/$defs/c"}}, "$defs": {"c": CONTACT}}, True),
        ("/one/x", {"properties": {"one": {"$ref": "https://elsewhere"}}}, False),
        ("/one/x", {"properties": {"one": {"$ref": "#/properties/one"}}}, False),
        ("/x", True, False),
        (None, CONTACT, False),
    ],
)
def test_a_pointer_that_no_argument_can_answer_is_noticed(by: str | None, schema: Any, nowhere: bool) -> None:
    assert leads_nowhere(Order(by), schema) is nowhere
