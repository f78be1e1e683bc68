"""Whether a condition fits the schema of a tool."""

from typing import Any

import pytest

from holdfast_policy.conditions import Condition
from holdfast_policy.fit import misfit

ITEM = {"type": "object", "properties": {"price": {"type": "integer"}, "sku": {"type": "string"}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "mode": {"type": "string", "enum": ["delete", "keep"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "force": {"type": "boolean"},
        "extra": {"type": "object"},
        "owner": {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "object"}]},
    },
    "$defs": {"Item": ITEM},
}


def why(text: str, schema: object = SCHEMA) -> str | None:
    return misfit(Condition(text).tree, schema, tool="bank__pay", server="bank")


@pytest.mark.parametrize(
    "text",
    [
        "args.amount > 100",
        "has(args.amount) && args.amount > 100.5",
        "args['amount'] >= 1",
        "'amount' in args",
        "args.mode == 'delete'",
        "args.mode in ['delete', 'purge']",
        "args.note == null || args.note == 'x'",
        "args.amount != null && args.amount > 1",
        "args.items.exists(item, item.price > 10)",
        "args.items[0].sku.startsWith('A')",
        "args.tags.filter(tag, tag == 'x').size() > 0",
        "'x' in args.tags",
        "args.force == true && args.amount > 1",
        "args.extra.anything.at.all == 1",
        "args.extra.all(key, key != 'x')",
        "args.owner.whatever == 1",
        "type(args.amount) == double",
        "double(args.amount) * 2.0 > 1.0",
        "timestamp(args.note) < timestamp('2026-01-01T00:00:00Z')",
        "args == {}",
        "principal.id == 'anna' && 'x' in principal.roles",
        "tool == 'other__tool' && args.unknown == 1",
        "tool == 'other__tool' ? args.unknown == 1 : args.amount > 1",
        "tool in ['other__tool', 'x'] && args.unknown == 1",
        "!(server == 'bank') && args.unknown == 1",
        "tool.startsWith('other__') && args.unknown == 1",
        "tool.matches('^other') && args.unknown == 1",
        "server == 'bank' || args.unknown == 1",
    ],
)
def test_a_condition_over_what_the_tool_has_fits(text: str) -> None:
    assert why(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("args.amout > 100", "the tool has no argument amout; did you mean amount?"),
        ("has(args.amout) && args.amout > 100", "the tool has no argument amout; did you mean amount?"),
        ("args['amout'] > 100", "the tool has no argument amout; did you mean amount?"),
        ("'amout' in args", "the tool has no argument amout; did you mean amount?"),
        ("args.items.exists(item, item.prize > 1)", "item has no member prize; did you mean price?"),
        ("args.items[0].prize == 1", "args.items[0] has no member prize; did you mean price?"),
        ("args.mode.length == 1", "args.mode is a string, which has no length"),
        ("args.amount == '100'", 'it compares args.amount, which is a number, with "100"'),
        ("args.amount > '100'", 'it compares args.amount, which is a number, with "100"'),
        ("100 < args.mode", "it compares 100 with args.mode, which is a string"),
        ("args.amount == null", "it compares args.amount, which is a number, with null"),
        ("args.note == 1", "it compares args.note, which is null or a string, with 1"),
        ("1 in args.tags", "with args.tags, which is a string"),
        ("args.tags == 'x'", "args.tags, which is an array"),
        ("args.mode == 'delte'", 'args.mode is never "delte"; did you mean delete?'),
        ("args.mode in ['x', 'y']", 'args.mode is never "x" or "y"; there are delete, keep'),
        ("args.note && args.force == true", "args.note is null or a string, where a boolean is needed"),
        ("args.amount.startsWith('1')", "args.amount is a number, where a string is needed"),
        ("args.amount.size() > 1", "args.amount is a number"),
        ("-args.mode < 1", "args.mode is a string, where a number is needed"),
        ("tool == 'bank__pay' ? args.unknown == 1 : true", "the tool has no argument unknown"),
        ("args.tags.all(tool, tool == 'x') && args.unknown == 1", "the tool has no argument unknown"),
        ("principal.role == 'x'", "principal has no member role; did you mean roles?"),
        ("principal.id == 1", "it compares principal.id, which is a string, with 1"),
    ],
)
def test_a_condition_over_what_the_tool_has_not_does_not_fit(text: str, reason: str) -> None:
    said = why(text)
    assert said is not None
    assert reason in said


def test_a_comprehension_variable_called_like_a_known_one_is_not_taken_for_it() -> None:
    assert why("args.tags.exists(tool, tool == 'x' && args.unknown == 1)") is not None


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"type": "object", "properties": {"a": {}}, "patternProperties": {"(?=x)": {}}},
        {"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"x": {}}}]},
        {"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {"properties": {"x": {}}}]},
        {"type": "object", "properties": {"a": {}}, "if": {}, "then": {"properties": {"x": {}}}},
        {"type": "object", "properties": {"a": {}}, "dependentSchemas": {"a": {"properties": {"x": {}}}}},
        {"type": "object", "properties": {"a": {}}, "$ref": "https://example.com/elsewhere.json"},
        {"type": "object", "properties": {"a": {}}, "$dynamicRef": "#meta"},
        {"type": "object", "properties": {"a": {}}, "$ref": "#/$defs/absent"},
        {"$ref": "#/$defs/whole", "$defs": {"whole": {"properties": {"x": {}}, "additionalProperties": False}}},
        {"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"properties": {"x": {"type": "number"}}}}},
        {"properties": {"x": {"type": ["string", "number"]}}},
        {"properties": {"x": {"enum": ["a", 1]}}},
        {"properties": {"x": {"type": "surprise"}}},
        {"properties": "nonsense"},
    ],
)
def test_every_doubt_about_a_schema_is_in_favour_of_the_condition(schema: object) -> None:
    assert why("args.x == 1", schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {}},
        {"properties": {"a": {}}},
        {"additionalProperties": False},
        {"properties": {"a": {}}, "unevaluatedProperties": False},
        {"properties": {"x": False}},
        {"properties": {"a": {}}, "patternProperties": {"^y": {}}},
        {"properties": {"x": {}}, "allOf": [{"properties": {"a": {}}, "additionalProperties": False}]},
        {"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"oneOf": [{"additionalProperties": False}, {"properties": {"x": False}}]},
        {"properties": {"x": {"allOf": [{"type": ["string", "number"]}, {"type": "string"}]}}},
        {"properties": {"x": {"const": 2}}},
        {"properties": {"x": {"const": True}}},
        {"properties": {"x": {"oneOf": [{"const": 2}, {"enum": [3, "1"]}]}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/w", "properties": {"x": {}},
         "definitions": {"w": {"properties": {"a": {}}}}},
    ],
)  # fmt: skip
def test_what_a_schema_rules_out_does_not_fit(schema: object) -> None:
    assert why("args.x == 1", schema) is not None


@pytest.mark.parametrize(
    ("array", "fits"),
    [
        ({}, True),
        ({"prefixItems": [{"type": "string"}]}, True),
        ({"items": [{"type": "string"}]}, True),
        ({"items": [{"type": "string"}], "additionalItems": {"type": "number"}}, True),
        ({"anyOf": [{"items": {"type": "number"}}, {"items": {"type": "string"}}]}, True),
        ({"items": {"type": "string"}}, False),
        ({"prefixItems": [{"type": "string"}], "items": False}, False),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "boolean"}}, False),
        ({"items": [{"type": "string"}], "additionalItems": False}, False),
        ({"anyOf": [{"items": {"type": "null"}}, {"items": {"type": "string"}}]}, False),
    ],
)
def test_elements_are_ruled_out_only_where_every_place_rules_them_out(array: dict[str, Any], fits: bool) -> None:
    said = why("args.list[1] == 1", {"properties": {"list": {"type": "array", **array}}})
    assert (said is None) is fits


def test_a_schema_that_explodes_is_left_unread_and_fits_nothing() -> None:
    levels = {f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 4} for n in range(40)}
    bomb = {"$ref": "#/$defs/l0", "$defs": {**levels, "l40": {"properties": {"x": {}}}}}
    assert why("args.x == 1", bomb) == "the tool's schema is too intricate to check the condition against it"


def test_a_schema_that_is_made_of_itself_is_left_unread_and_fits_nothing() -> None:
    circle = {"properties": {"x": {}}, "anyOf": [{"$ref": "#"}, {"type": "object"}]}
    assert why("args.x == 1", circle) is not None


def test_a_recursive_structure_is_read_as_deep_as_the_condition_goes() -> None:
    tree = {"properties": {"name": {"type": "string"}, "child": {"$ref": "#"}}}
    assert why("args.child.child.child.name == 'x'", tree) is None
    assert why("args.child.child.child.nam == 'x'", tree) is not None
