"""The syntax tree that the compiler hands out, read from its serialized form."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from holdfast_policy.conditions import Condition
from holdfast_policy.syntax import (
    Call,
    Comprehension,
    Constant,
    ListOf,
    MapOf,
    Name,
    Select,
    UnreadableSyntax,
    parse,
    walk,
)

ARGS = Name("args")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0", 0),
        ("-1", -1),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615u", 2**64 - 1),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("''", ""),
        ("'Grüße \\n'", "Grüße \n"),
        ("b'ab'", b"ab"),
        ("true", True),
        ("false", False),
        ("null", None),
    ],
)
def test_every_kind_of_literal_is_read(written: str, value: object) -> None:
    tree = Condition(f"args.x == {written}").tree
    assert tree == Call("_==_", None, (Select(ARGS, "x", False), Constant(value)))  # type: ignore[arg-type]


def test_a_guard_is_a_select_that_tests() -> None:
    assert Condition("has(args.x)").tree == Select(ARGS, "x", True)


def test_a_method_has_a_target_and_a_function_has_none() -> None:
    assert Condition("args.x.startsWith('a')").tree == Call("startsWith", Select(ARGS, "x", False), (Constant("a"),))
    size = next(node for node in walk(Condition("size(args.x) > 1").tree) if isinstance(node, Call) and node.arguments)
    assert size.target is None


def test_lists_and_maps_keep_the_order_of_their_parts() -> None:
    assert Condition("args.x == [1, 2]").tree == Call(
        "_==_", None, (Select(ARGS, "x", False), ListOf((Constant(1), Constant(2))))
    )
    assert Condition("args.x == {'a': 1, 'b': tool}").tree == Call(
        "_==_",
        None,
        (Select(ARGS, "x", False), MapOf((Constant("a"), Constant(1), Constant("b"), Name("tool")))),
    )


def test_a_macro_arrives_as_a_comprehension_that_names_its_variable() -> None:
    tree = Condition("args.items.all(item, item.price > 0)").tree
    assert isinstance(tree, Comprehension)
    assert tree.over == Select(ARGS, "items", False)
    assert tree.variables == ("item",)
    assert Select(Name("item"), "price", False) in list(walk(tree.step))


@given(some.binary(max_size=200))
def test_bytes_that_are_no_condition_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(UnreadableSyntax):
        parse(data)
