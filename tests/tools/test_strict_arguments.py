"""Which names are unknown: the examples of the decision, and the specification's own keyword as the judge."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_tools.schema import BrokenSchema, ToolSchema

NESTED = {"type": "object", "properties": {"note": {"type": "string"}}}


def accepts(schema: dict[str, Any], arguments: Any, *, strict: bool = True) -> bool:
    return not ToolSchema.compile(schema, strict=strict).problems(arguments)


@pytest.mark.parametrize(
    ("schema", "arguments", "fits"),
    [
        ({"properties": {"a": {}}}, {"b": 1}, False),
        ({"properties": {}}, {"b": 1}, False),
        ({"type": "object"}, {"b": 1}, True),
        ({}, {"b": 1}, True),
        ({"properties": {"a": {}}, "additionalProperties": True}, {"b": 1}, True),
        ({"properties": {"a": {}}, "additionalProperties": {}}, {"b": 1}, True),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, {"b": 1}, True),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, {"b": "x"}, False),
        ({"properties": {"a": {}}, "unevaluatedProperties": True}, {"b": 1}, True),
        ({"properties": {"a": {}}, "patternProperties": {"^x-": {}}}, {"x-b": 1}, True),
        ({"properties": {"a": {}}, "patternProperties": {"^x-": {}}}, {"b": 1}, False),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, {"a": 1, "b": 1}, True),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, {"a": 1, "c": 1}, False),
        ({"allOf": [{"properties": {"a": {}}}, {"additionalProperties": True}]}, {"c": 1}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}}, {"a": 1}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}}, {"b": 1}, False),
        (
            {"properties": {"a": {}}, "if": {"required": ["a"]}, "then": {"properties": {"b": {}}}},
            {"a": 1, "b": 1},
            True,
        ),
        ({"properties": {"a": {}}, "if": {"required": ["a"]}, "then": {"properties": {"b": {}}}}, {"b": 1}, False),
        ({"properties": {"meta": NESTED}}, {"meta": {"noot": "x"}}, False),
        ({"properties": {"meta": NESTED}}, {"meta": {"note": "x"}}, True),
        ({"properties": {"meta": {"type": "object"}}}, {"meta": {"anything": "x"}}, True),
        ({"properties": {"all": {"items": NESTED}}}, {"all": [{"note": "x"}, {"noot": "x"}]}, False),
        (
            {"properties": {"m": NESTED}, "allOf": [{"properties": {"m": {"properties": {"more": {}}}}}]},
            {"m": {"note": "x", "more": 1}},
            True,
        ),
        ({"properties": {"a": {"contains": NESTED}}}, {"a": [{"note": "x", "free": 1}]}, True),
        ({"properties": {"enum": {"enum": [{"k": 1}]}}}, {"enum": {"k": 1}}, True),
        ({"properties": {"properties": {"type": "object"}}}, {"properties": {"b": 1}}, True),
    ],
)
def test_the_examples_of_the_decision(schema: dict[str, Any], arguments: dict[str, Any], fits: bool) -> None:
    assert accepts(schema, arguments) is fits


def test_a_field_of_another_alternative_is_unknown() -> None:
    card = {"properties": {"kind": {"const": "card"}, "number": {}}, "required": ["kind"]}
    cash = {"properties": {"kind": {"const": "cash"}, "coins": {}}, "required": ["kind"]}
    for word in ("oneOf", "anyOf"):
        assert accepts({word: [card, cash]}, {"kind": "card", "number": 1})
        assert not accepts({word: [card, cash]}, {"kind": "card", "coins": 1})


@pytest.mark.parametrize("draft", ["draft-04", "draft-06", "draft-07"])
def test_older_drafts_are_checked_alike(draft: str) -> None:
    schema = {
        "$schema": f"http://json-schema.org/{draft}/schema#",
        "allOf": [{"$ref": "#/definitions/base"}],
        "properties": {"own": NESTED, "free": {"type": "object", "additionalProperties": {}}},
        "definitions": {"base": {"properties": {"inherited": {"type": "string"}}}},
    }
    assert accepts(schema, {"own": {"note": "x"}, "inherited": "x", "free": {"any": 1}})
    assert not accepts(schema, {"inherit": "x"})
    assert not accepts(schema, {"own": {"not": "x"}})


def test_without_strictness_unknown_names_pass() -> None:
    assert accepts({"properties": {"a": {}}}, {"b": 1}, strict=False)


def test_a_recursive_schema_is_checked_all_the_way_down() -> None:
    schema = {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}, "v": {}}}}}
    assert accepts(schema, {"next": {"next": {"v": 1}}})
    assert not accepts(schema, {"next": {"next": {"w": 1}}})


def test_what_is_said_of_names_says_nothing_of_what_they_name():
    schema = {"properties": {}, "allOf": [{"propertyNames": {"additionalProperties": {}}}]}
    assert not accepts(schema, {"a": None})


# --- against the specification ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab", "x-c", "d"])
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.sampled_from(["", "a", "ab"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
INSTANCES = st.dictionaries(NAMES, VALUES, max_size=4)

ASSERTIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number", "integer", "boolean", "object", "array", "null"])}
    ),
    st.fixed_dictionaries({"type": st.lists(st.sampled_from(["string", "integer", "null"]), min_size=1, unique=True)}),
    st.fixed_dictionaries({"enum": st.lists(LEAVES, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": LEAVES}),
    st.fixed_dictionaries({"minimum": st.integers(-2, 2)}),
    st.fixed_dictionaries({"exclusiveMaximum": st.integers(-2, 2)}),
    st.fixed_dictionaries({"maxLength": st.integers(0, 2)}),
    st.fixed_dictionaries({"minItems": st.integers(0, 2)}),
    st.fixed_dictionaries({"uniqueItems": st.just(True)}),
    st.fixed_dictionaries({"required": st.lists(NAMES, max_size=2, unique=True)}),
    st.fixed_dictionaries({"maxProperties": st.integers(0, 3)}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["^a", "b$"])}),
)


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def composed(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas with one or two keywords that apply others."""
    some = st.lists(inner, min_size=1, max_size=2)
    keyword = st.one_of(
        st.fixed_dictionaries({"properties": st.dictionaries(NAMES, inner, max_size=3)}),
        st.fixed_dictionaries({"patternProperties": st.dictionaries(st.sampled_from(["^x-", "b"]), inner, max_size=1)}),
        st.fixed_dictionaries({"additionalProperties": inner | st.booleans()}),
        st.fixed_dictionaries({"allOf": some}),
        st.fixed_dictionaries({"anyOf": some}),
        st.fixed_dictionaries({"oneOf": some}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner}),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"propertyNames": inner}),
        st.fixed_dictionaries({"dependentSchemas": st.dictionaries(NAMES, inner, max_size=1)}),
    )
    return st.builds(merged, st.lists(keyword | ASSERTIONS, min_size=1, max_size=3))


KEYWORDS = st.sampled_from(["type", "properties", "items", "anyOf", "required", "minimum", "pattern", "$ref"])
SCHEMAS = st.recursive(ASSERTIONS, composed, max_leaves=8)


def says_nothing_of_nested_objects(schema: Any) -> bool:
    """Whether only the arguments themselves are described by name: then the specification's keyword is the judge."""
    below = ("items", "propertyNames", "patternProperties", "additionalProperties")
    if isinstance(schema, list):
        return all(says_nothing_of_nested_objects(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    children = [*schema.get("properties", {}).values(), *(schema[key] for key in below if key in schema)]
    in_place = [schema[key] for key in ("allOf", "anyOf", "oneOf", "not", "if", "then") if key in schema]
    dependents = list(schema.get("dependentSchemas", {}).values())
    return all('"properties"' not in repr(child).replace("'", '"') for child in children) and all(
        says_nothing_of_nested_objects(part) for part in (*in_place, *dependents)
    )


@settings(max_examples=600, deadline=None)
@given(SCHEMAS, INSTANCES)
def test_plain_checking_agrees_with_the_reference_implementation(schema: dict[str, Any], instance: Any) -> None:
    assert accepts(schema, instance, strict=False) is jsonschema.Draft202012Validator(schema).is_valid(instance)


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(NAMES, ASSERTIONS, max_size=3), SCHEMAS, INSTANCES)
def test_strict_checking_is_the_specifications_unevaluated_properties(
    properties: dict[str, Any], schema: dict[str, Any], instance: Any
) -> None:
    schema = {"allOf": [schema], "properties": properties}
    if not says_nothing_of_nested_objects(schema):
        return
    closed = {**schema, "unevaluatedProperties": False}
    assert accepts(schema, instance) is jsonschema.Draft202012Validator(closed).is_valid(instance)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, INSTANCES)
def test_strict_checking_only_ever_refuses_more(schema: dict[str, Any], instance: Any) -> None:
    if accepts(schema, instance):
        assert accepts(schema, instance, strict=False)


@settings(max_examples=300, deadline=None)
@given(st.recursive(VALUES, lambda inner: st.dictionaries(KEYWORDS, inner, max_size=2), max_leaves=5))
def test_what_is_a_schema_is_decided_as_by_the_reference_implementation(schema: Any) -> None:
    try:
        ToolSchema.compile(schema, strict=True)
    except BrokenSchema:
        return
    jsonschema.Draft202012Validator.check_schema(schema)
