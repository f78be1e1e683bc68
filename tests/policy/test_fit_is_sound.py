"""A condition that holds for arguments which the schema admits is never called a misfit."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as some
from jsonschema import Draft202012Validator

from holdfast_policy.conditions import Bindings, Condition, bind
from holdfast_policy.fit import misfit
from holdfast_store.model.values import LOCAL

NAMES = ("amount", "x", "to-account", "in")

Pair = tuple[Any, Any]  # a schema, and a value that it admits

leaves: some.SearchStrategy[Pair] = some.one_of(
    some.integers(-(2**31), 2**31).map(lambda n: ({"type": "integer"}, n)),
    some.integers(-(2**31), 2**31).map(lambda n: ({"type": ["number", "null"]}, n)),
    some.booleans().map(lambda b: ({"type": "boolean"}, b)),
    some.text("abc", max_size=3).map(lambda s: ({"enum": [s, 0, True, None]}, s)),
    some.text("abc", max_size=3).map(lambda s: ({"const": s}, s)),
    some.just(({}, None)),
)


@some.composite
def objects(draw: some.DrawFn, inner: some.SearchStrategy[Pair]) -> Pair:
    members = draw(some.dictionaries(some.sampled_from(NAMES), inner, max_size=3))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in members.items()},
        "additionalProperties": draw(some.sampled_from([True, False, {}])),
    }
    return schema, {name: value for name, (_, value) in members.items()}


@some.composite
def arrays(draw: some.DrawFn, inner: some.SearchStrategy[Pair]) -> Pair:
    schema, value = draw(inner)
    keyword, wrapped = draw(some.sampled_from([("items", schema), ("prefixItems", [schema])]))
    return {"type": "array", keyword: wrapped}, [value]


@some.composite
def wrapped(draw: some.DrawFn, inner: some.SearchStrategy[Pair]) -> Pair:
    schema, value = draw(inner)
    other, _ = draw(inner)
    wrap = draw(
        some.sampled_from(
            [
                {"anyOf": [schema, other]},
                {"anyOf": [other, schema]},
                {"allOf": [{}, schema]},
                {"allOf": [schema, {"anyOf": [other, schema]}]},
                {"oneOf": [schema]},
                {"if": other, "then": schema, "else": schema},
                {"if": {}, "then": schema},
            ]
        )
    )
    return wrap, value


pairs = some.recursive(leaves, lambda inner: some.one_of(objects(inner), arrays(inner), wrapped(inner)), max_leaves=8)


def places(value: Any, place: str) -> list[tuple[str, Any]]:
    found = [(place, value)]
    if isinstance(value, dict):
        for name, member in value.items():
            found += places(member, f'{place}["{name}"]')
    if isinstance(value, list):
        for index, element in enumerate(value):
            found += places(element, f"{place}[{index}]")
    return found


def literal(value: Any) -> str | None:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return f'"{value}"'
        case _:
            return None


@given(objects(pairs))
def test_what_holds_for_admitted_arguments_fits(pair: Pair) -> None:
    schema, arguments = pair
    Draft202012Validator.check_schema(schema)
    if not Draft202012Validator(schema).is_valid(arguments):
        return  # `oneOf` and `if` may refuse what their parts admit
    bindings = bind("a__b", "a", LOCAL, arguments)
    assert isinstance(bindings, Bindings)
    for place, value in places(arguments, "args"):
        written = literal(value)
        texts = [f"{place} == {written}", f"{place} in [{written}, 'other']"] if written is not None else []
        if isinstance(value, dict):
            texts += [f'"{name}" in {place}' for name in value]
        if isinstance(value, list):
            texts += [f"{literal(element)} in {place}" for element in value if literal(element) is not None]
        for text in texts:
            condition = Condition(text)
            assert condition.holds(bindings) is True, text
            assert misfit(condition.tree, schema, tool="a__b", server="a") is None, text
