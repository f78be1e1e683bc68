"""Whether a condition fits what it looks at: the schema of a tool, and what a principal has.

A condition that names an argument which a tool does not have never does what its author meant: it fails on every call
or, guarded by `has`, quietly never holds. So names are checked against the schema, and so are literals: one of a type,
or outside of a list of values, that the schema rules out for what it is compared with.

Branches that `tool` and `server` decide are followed as they are decided: in ``tool == "a__b" && args.x > 1`` the
second part is not looked at for other tools. A comparison ``!= null`` is a guard and fits everything.
"""

import json
from collections.abc import Iterable, Mapping

from holdfast_policy.conditions import text_matches
from holdfast_policy.names import suggestion
from holdfast_policy.shapes import Shape, TooIntricate, contains
from holdfast_policy.syntax import (
    Call,
    Comprehension,
    Constant,
    Expression,
    ListOf,
    MapOf,
    Name,
    Scalar,
    Select,
    children,
)

PRINCIPAL_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "roles": {"type": "array", "items": {"type": "string"}},
        "tenant": {"type": "string"},
    },
    "additionalProperties": False,
}

_WITH_ARTICLE = {
    "array": "an array",
    "boolean": "a boolean",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_LISTED_VALUES_COUNT = frozenset({"_==_", "_!=_"})
_ARITHMETIC = frozenset({"_-_", "_*_", "_/_", "_%_", "-_"})
_TEXT_TESTS = frozenset({"contains", "endsWith", "matches", "startsWith"})
_NUMBERS = frozenset({"double", "int", "size", "uint"})

_Scope = Mapping[str, Shape]
_Known = Mapping[str, str]


class _Misfit(Exception):
    """The first thing that does not fit, in words."""


def misfit(tree: Expression, schema: object, *, tool: str | None = None, server: str | None = None) -> str | None:
    """Why the condition does not fit a tool with this input schema, as a clause; None where it fits.

    `schema` True stands for any tool: then only what a principal has is checked. Every doubt is in favour of the
    condition, save that a schema too intricate to be read in bounded time fits nothing.
    """
    known = {name: value for name, value in (("tool", tool), ("server", server)) if value is not None}
    scope = {
        "args": Shape.of(schema),
        "principal": Shape.of(PRINCIPAL_SCHEMA),
        "tool": Shape.of({"type": "string"}),
        "server": Shape.of({"type": "string"}),
    }
    try:
        _require(tree, _shape(tree, scope, known), "boolean")
    except _Misfit as error:
        return str(error)
    except (TooIntricate, RecursionError):
        return "the tool's schema is too intricate to check the condition against it"
    return None


def decided(node: Expression, known: _Known) -> bool | None:
    """What `node` comes to whatever the call is, given the `known` variables; None where the call decides."""
    match node:
        case Constant(bool() as value):
            return value
        case Call("!_", None, (operand,)):
            inner = decided(operand, known)
            return None if inner is None else not inner
        case Call("_&&_", None, (left, right)):
            return _either(False, decided(left, known), decided(right, known))
        case Call("_||_", None, (left, right)):
            return _either(True, decided(left, known), decided(right, known))
        case Call("_?_:_", None, (question, then, otherwise)):
            answer = decided(question, known)
            return None if answer is None else decided(then if answer else otherwise, known)
        case Call(function, _, arguments):
            return _decided_call(function, [_literal(part, known) for part in children(node)], arguments, known)
        case _:
            return None


def _either(absorbing: bool, left: bool | None, right: bool | None) -> bool | None:
    if absorbing in (left, right):
        return absorbing
    return None if None in (left, right) else not absorbing


def _literal(node: Expression, known: _Known) -> Constant | None:
    match node:
        case Constant():
            return node
        case Name(name) if name in known:
            return Constant(known[name])
        case _:
            return None


def _decided_call(
    function: str, parts: list[Constant | None], arguments: tuple[Expression, ...], known: _Known
) -> bool | None:
    if function == "@in" and parts[0] is not None and isinstance(arguments[1], ListOf):
        elements = [_literal(element, known) for element in arguments[1].elements]
        if None in elements:
            return None
        return contains([element.value for element in elements if element], parts[0].value)
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    left, right = parts[0].value, parts[1].value
    if function in _LISTED_VALUES_COUNT:
        return contains([left], right) is (function == "_==_")
    if isinstance(left, str) and isinstance(right, str):
        return _decided_text_test(function, left, right)
    return None


def _decided_text_test(function: str, text: str, sought: str) -> bool | None:
    match function:
        case "contains":
            return sought in text
        case "endsWith":
            return text.endswith(sought)
        case "startsWith":
            return text.startswith(sought)
        case "matches":
            return text_matches(sought, text)
        case _:
            return None


def _shape(node: Expression, scope: _Scope, known: _Known) -> Shape:
    """The shape of what `node` yields. Raises `_Misfit` where something in it does not fit."""
    match node:
        case Constant(value):
            return Shape.constant(value)
        case Name(name):
            return scope.get(name) or Shape.unknown()
        case Select(operand, name, tests):
            member = _member(operand, _shape(operand, scope, known), name)
            return Shape.of({"type": "boolean"}) if tests else member
        case ListOf(elements):
            return _list_shape(elements, scope, known)
        case MapOf(parts):
            for part in parts:
                _shape(part, scope, known)
            return Shape.of({"type": "object"})
        case Comprehension():
            return _comprehension_shape(node, scope, known)
        case Call("_&&_" | "_||_" | "!_" | "_?_:_"):
            return _logic_shape(node, scope, known)
        case Call():
            return _call_shape(node, [_shape(part, scope, known) for part in children(node)])


def _member(operand: Expression, shape: Shape, name: str) -> Shape:
    _require(operand, shape, "object", why=f"which has no {name}")
    member = shape.member(name)
    if member is None:
        place = _written(operand) or "what it looks into"
        whose = "the tool has no argument" if place == "args" else f"{place} has no member"
        raise _Misfit(f"{whose} {name}{suggestion(name, shape.member_names())}")
    return member


def _logic_shape(node: Call, scope: _Scope, known: _Known) -> Shape:
    outcome = decided(node, known)
    if outcome is not None and node.function != "_?_:_":
        return Shape.constant(outcome)
    if node.function == "_?_:_":
        question, *branches = node.arguments
        answer = decided(question, known)
        _require(question, _shape(question, scope, known), "boolean")
        taken = branches if answer is None else [branches[0 if answer else 1]]
        shapes = [_shape(branch, scope, known) for branch in taken]
        return shapes[0] if len(shapes) == 1 else Shape.unknown()
    for operand in node.arguments:
        _require(operand, _shape(operand, scope, known), "boolean")
    return Shape.of({"type": "boolean"})


def _list_shape(elements: tuple[Expression, ...], scope: _Scope, known: _Known) -> Shape:
    shapes = [_shape(element, scope, known) for element in elements]
    values = [element.value for element in elements if isinstance(element, Constant)]
    if values and len(values) == len(shapes):
        return Shape.of({"type": "array", "items": {"enum": values}})
    return Shape.of({"type": "array"})


def _comprehension_shape(node: Comprehension, scope: _Scope, known: _Known) -> Shape:
    over = _shape(node.over, scope, known)
    _require(node.over, over, "array", "object")
    inner = {**scope, node.accumulator: Shape.unknown()}
    for variable in node.variables:
        inner[variable] = _iterated(over) if len(node.variables) == 1 else Shape.unknown()
    visible = {name: value for name, value in known.items() if name not in (node.accumulator, *node.variables)}
    _shape(node.start, scope, known)
    _shape(node.condition, inner, visible)
    _shape(node.step, inner, visible)
    _shape(node.result, inner, visible)
    return Shape.unknown()


def _iterated(over: Shape) -> Shape:
    """What a macro's variable stands for: the elements of a list, the keys of a map."""
    types = over.types()
    if types == {"array"}:
        return over.element()
    return Shape.of({"type": "string"}) if types == {"object"} else Shape.unknown()


def _call_shape(node: Call, shapes: list[Shape]) -> Shape:
    parts = children(node)
    function = node.function
    if function in _COMPARISONS:
        _compare(function, parts, shapes)
        return Shape.of({"type": "boolean"})
    if function == "@in":
        _find(parts, shapes)
        return Shape.of({"type": "boolean"})
    if function == "_[_]":
        return _index(parts, shapes)
    if function in _TEXT_TESTS:
        for part, shape in zip(parts, shapes, strict=True):
            _require(part, shape, "string")
        return Shape.of({"type": "boolean"})
    if function in _ARITHMETIC:
        for part, shape in zip(parts, shapes, strict=True):
            _require(part, shape, "number")
    if function == "size":
        _require(parts[0], shapes[0], "array", "object", "string")
    return Shape.of({"type": "number"}) if function in _NUMBERS else Shape.unknown()


def _compare(function: str, parts: tuple[Expression, ...], shapes: list[Shape]) -> None:
    if function == "_!=_" and Constant(None) in parts:
        return
    left, right = shapes
    if not left.types() & right.types():
        raise _Misfit(_never_equal(parts, shapes))
    if function in _LISTED_VALUES_COUNT:
        _require_common_value(parts[0], left, right)


def _find(parts: tuple[Expression, ...], shapes: list[Shape]) -> None:
    needle, hay = shapes
    _require(parts[1], hay, "array", "object")
    if hay.types() == {"array"}:
        element = hay.element()
        if not needle.types() & element.types():
            raise _Misfit(_never_equal(parts, [needle, element]))
        _require_common_value(parts[0], needle, element)
    elif hay.types() == {"object"} and isinstance(parts[0], Constant) and isinstance(parts[0].value, str):
        _member(parts[1], hay, parts[0].value)


def _index(parts: tuple[Expression, ...], shapes: list[Shape]) -> Shape:
    container = shapes[0]
    if isinstance(parts[1], Constant) and isinstance(parts[1].value, str):
        return _member(parts[0], container, parts[1].value)
    _require(parts[0], container, "array", "object")
    return container.element() if container.types() == {"array"} else Shape.unknown()


def _require(node: Expression, shape: Shape, *types: str, why: str | None = None) -> None:
    possible = shape.types()
    if possible.isdisjoint(types):
        place = _written(node) or "a part of the condition"
        raise _Misfit(f"{place} is {_kinds(possible)}, {why or f'where {_kinds(types)} is needed'}")


def _require_common_value(node: Expression, left: Shape, right: Shape) -> None:
    mine, others = left.values(), right.values()
    if mine is None or others is None or any(contains(others, value) for value in mine):
        return
    place = _written(node)
    possible, asked = (mine, others) if place else (others, mine)
    near = suggestion(str(asked[0]), [value for value in possible if isinstance(value, str)]) if asked else ""
    raise _Misfit(f"{place or 'what it is compared with'} is never {' or '.join(map(_quoted, asked))}{near}")


def _never_equal(parts: tuple[Expression, ...], shapes: list[Shape]) -> str:
    sides = [
        _quoted(part.value)
        if isinstance(part, Constant)
        else f"{_written(part) or 'a part of the condition'}, which is {_kinds(shape.types())}"
        for part, shape in zip(parts, shapes, strict=True)
    ]
    return f"it compares {sides[0]}, with {sides[1]}" if ", " in sides[0] else f"it compares {sides[0]} with {sides[1]}"


def _quoted(value: Scalar) -> str:
    return repr(value) if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)


def _kinds(types: Iterable[str]) -> str:
    return " or ".join(_WITH_ARTICLE.get(name, name) for name in sorted(types))


def _written(node: Expression) -> str | None:
    """A place as its author wrote it; None for what is no place."""
    match node:
        case Name(name) if not name.startswith("@"):
            return name
        case Select(operand, name, False):
            place = _written(operand)
            return place and f"{place}.{name}"
        case Call("_[_]", None, (container, Constant(key))):
            place = _written(container)
            return place and f"{place}[{key!r}]"
        case _:
            return None
