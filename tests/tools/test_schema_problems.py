"""What a model is told about arguments that do not fit."""

from typing import Any

import pytest

from holdfast_store.model.errors import InvalidArguments
from holdfast_tools.schema import BrokenSchema, ToolSchema, canonical, fingerprint

REFUND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "exclusiveMinimum": 0},
        "currency": {"type": "string", "enum": ["EUR", "USD"]},
        "note": {"type": "string", "maxLength": 10},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "payee": {"type": "object", "properties": {"iban": {"type": "string"}}, "required": ["iban"]},
    },
    "required": ["amount", "currency"],
}

DRAFTS = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft-07": "http://json-schema.org/draft-07/schema#",
    "draft-06": "http://json-schema.org/draft-06/schema#",
    "draft-04": "http://json-schema.org/draft-04/schema#",
}
EVERY_DRAFT = pytest.mark.parametrize("uri", DRAFTS.values(), ids=DRAFTS.keys())


def told(schema: dict[str, Any], arguments: Any, *, strict: bool = True) -> list[str]:
    return [str(problem) for problem in ToolSchema.compile(schema, strict=strict).problems(arguments)]


def test_fitting_arguments_have_no_problems() -> None:
    assert told(REFUND, {"amount": 1, "currency": "EUR", "payee": {"iban": "x"}}) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"amount": "12", "currency": "EUR"}, ['/amount: expected a number, got the string "12"']),
        ({"amount": 0, "currency": "EUR"}, ["/amount: expected more than 0, got the number 0"]),
        (
            {"amount": 1, "currency": "EURO"},
            ['/currency: expected one of "EUR", "USD", got the string "EURO"; did you mean "EUR"?'],
        ),
        (
            {"amount": 1, "currency": "EUR", "note": "far too long"},
            ["/note: expected at most 10 characters, got 12"],
        ),
        (
            {"amount": 1, "currency": "EUR", "tags": ["a", 2, "c"]},
            ["/tags: expected at most 2 items, got 3", "/tags/1: expected a string, got the number 2"],
        ),
        ({"amount": None, "currency": "EUR"}, ["/amount: expected a number, got null"]),
        ({"amount": True, "currency": "EUR"}, ["/amount: expected a number, got true"]),
    ],
)
def test_each_problem_names_its_place_what_was_expected_and_what_came(
    arguments: dict[str, Any], expected: list[str]
) -> None:
    assert sorted(told(REFUND, arguments)) == sorted(expected)


def test_empty_arguments_are_checked_like_any_others() -> None:
    assert told(REFUND, {}) == [
        '/: missing required property "amount" (number)',
        '/: missing required property "currency" (one of "EUR", "USD")',
    ]


def test_a_typo_is_told_together_with_what_is_missing_for_it() -> None:
    assert told(REFUND, {"ammount": 12, "currency": "EUR"}) == [
        '/: unknown property "ammount"; did you mean "amount"?',
        '/: missing required property "amount" (number)',
    ]


def test_case_and_underscores_do_not_hide_the_nearest_name() -> None:
    schema = {"type": "object", "properties": {"issue_number": {"type": "integer"}}}
    assert told(schema, {"issueNumber": 1}) == ['/: unknown property "issueNumber"; did you mean "issue_number"?']


def test_without_a_near_name_the_ones_not_given_are_listed() -> None:
    assert told({"properties": {"a": {}, "b": {}}}, {"a": 1, "zzz": 2}) == [
        '/: unknown property "zzz"; not given yet: "b"'
    ]


def test_names_in_pointers_are_escaped() -> None:
    schema = {"properties": {"a/b~c": {"type": "string"}}}
    assert told(schema, {"a/b~c": 1}) == ["/a~1b~0c: expected a string, got the number 1"]


def test_an_optional_value_lists_its_types() -> None:
    schema = {"properties": {"when": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert told(schema, {"when": 5}) == ["/when: expected a string or null, got the number 5"]


def test_among_alternatives_the_closest_is_explained() -> None:
    by_mail = {"properties": {"kind": {"const": "mail"}, "address": {"type": "string"}}, "required": ["address"]}
    by_phone = {"properties": {"kind": {"const": "phone"}, "number": {"type": "string"}}, "required": ["number"]}
    schema = {"properties": {"to": {"type": "object", "oneOf": [by_mail, by_phone]}}}
    assert told(schema, {"to": {"kind": "phone"}}) == [
        '/to: fits none of 2 alternatives; to fit the closest: /to: missing required property "number" (string)'
    ]


def test_values_are_shortened() -> None:
    (problem,) = told({"properties": {"a": {"type": "integer"}}}, {"a": "s3cret" * 100})
    assert len(problem) < 150
    assert "…" in problem


def test_many_problems_are_cut_and_the_last_line_says_so() -> None:
    problems = told({"properties": {"a": {"items": {"type": "string"}}}}, {"a": list(range(1000))})
    assert len(problems) == 20
    assert problems[-1] == "/: there are more problems; mend these first"


def test_arguments_that_are_no_object_are_refused() -> None:
    assert told(REFUND, [1]) == ["/: expected an object, got an array of 1 item"]


def test_formats_are_checked_where_they_are_known_and_ignored_where_not() -> None:
    assert told({"properties": {"day": {"format": "date"}}}, {"day": "tomorrow"}) == [
        '/day: expected a string in the format date, got the string "tomorrow"'
    ]
    assert told({"properties": {"n": {"format": "uint64"}}}, {"n": "x"}) == []


def test_a_pattern_with_look_around_works_and_one_that_explodes_is_bounded() -> None:
    assert told({"properties": {"a": {"pattern": "^(?!root$)"}}}, {"a": "root"}) != []
    assert told({"properties": {"a": {"pattern": "^(?!root$)"}}}, {"a": "me"}) == []
    assert told({"properties": {"a": {"pattern": "^(?=a)(a|aa)+$"}}}, {"a": "a" * 60 + "b"}) != []


def test_half_a_surrogate_pair_is_a_problem_with_its_place() -> None:
    assert told({"properties": {"a": {"pattern": "^a"}}}, {"a": "\ud800"}) == [
        "/a: the text holds half of a surrogate pair; send valid Unicode"
    ]


@EVERY_DRAFT
def test_every_draft_is_known_by_its_schema_keyword(uri: str) -> None:
    plain = {"$schema": uri, "type": "object", "properties": {"a": {"type": "integer"}}}
    assert told(plain, {"a": 1}) == []
    assert told(plain, {"a": "1"}) == ['/a: expected an integer, got the string "1"']
    assert told(plain, {"aa": 1}) == ['/: unknown property "aa"; did you mean "a"?']


def test_a_reference_into_properties_works() -> None:
    schema = {
        "$schema": DRAFTS["draft-07"],
        "type": "object",
        "properties": {
            "from": {"type": "object", "properties": {"id": {"type": "integer"}}},
            "to": {"$ref": "#/properties/from"},
        },
    }
    assert told(schema, {"from": {"id": 1}, "to": {"id": 2}}) == []
    assert told(schema, {"to": {"id": "x"}}) == ['/to/id: expected an integer, got the string "x"']
    assert told(schema, {"to": {"idd": 1}}) == ['/to: unknown property "idd"; did you mean "id"?']


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, 'did you mean "object"?'),
        ({"properties": []}, "/properties: expected an object"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "nothing is ever fetched"),
        ({"properties": {"a": {"$ref": "#/$defs/missing"}}}, "cannot be resolved"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "none of the known drafts"),
        (True, "must be an object"),
        (None, "must be an object"),
    ],
)
def test_a_broken_schema_says_why(schema: Any, words: str) -> None:
    with pytest.raises(BrokenSchema, match=r".*") as raised:
        ToolSchema.compile(schema, strict=True)
    assert words in str(raised.value)


def test_canonical_arguments_do_not_hang_on_the_order_of_keys_and_tell_one_from_one_point_zero() -> None:
    assert canonical({"b": 1, "a": [1.0, "é"]}) == '{"a":[1.0,"é"],"b":1}'
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.0})


@pytest.mark.parametrize(
    ("arguments", "place"),
    [({"a": [float("inf")]}, "/a/0"), ({"a": float("nan")}, "/a"), ({"b": "\ud800"}, "/b"), ({"\udc00": 1}, "/")],
)
def test_what_json_cannot_carry_is_refused_with_its_place(arguments: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidArguments) as raised:
        canonical(arguments)
    assert str(raised.value).startswith(f"{place}: ")
