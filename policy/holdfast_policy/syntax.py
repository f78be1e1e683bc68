"""The syntax tree of a condition, read from the serialized form in which the CEL compiler hands it out.

That form is a `google.protobuf.Any` around a `cel.expr.CheckedExpr`. Both are specified in public and only ever
extended: the field numbers below are those of ``cel/expr/checked.proto`` and ``cel/expr/syntax.proto`` in the CEL
specification. Macros arrive expanded: `has(a.b)` is a `Select` with `tests`, `list.all(...)` a `Comprehension`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

Scalar = None | bool | int | float | str | bytes


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Name:
    """A variable: one of the condition's own, or one that a comprehension binds."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.field``, or ``has(operand.field)`` where it `tests`."""

    operand: "Expression"
    field: str
    tests: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function, a method (with `target`) or an operator, which is named like ``_&&_``, ``!_`` or ``@in``."""

    function: str
    target: "Expression | None"
    arguments: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class ListOf:
    """``[a, b]``"""

    elements: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class MapOf:
    """``{key: value}``. `parts` are keys and values in turn."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A fold of `over`. `variables` are bound to its elements, `accumulator` to what was folded so far."""

    over: "Expression"
    variables: tuple[str, ...]
    accumulator: str
    start: "Expression"
    condition: "Expression"
    step: "Expression"
    result: "Expression"


Expression = Constant | Name | Select | Call | ListOf | MapOf | Comprehension


class UnreadableSyntax(ValueError):
    """The bytes are not a checked CEL expression of the specified form."""


def parse(serialized: bytes) -> Expression:
    """The tree of a serialized `CheckedExpr`. Raises `UnreadableSyntax`."""
    try:
        checked = _Message(_Message(serialized).raw(2))
        return _expression(checked.message(4))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise UnreadableSyntax(f"the compiled condition cannot be read: {error}") from error


def children(node: Expression) -> tuple[Expression, ...]:
    """The direct parts of `node`."""
    match node:
        case Select(operand):
            return (operand,)
        case Call(_, target, arguments):
            return arguments if target is None else (target, *arguments)
        case ListOf(parts) | MapOf(parts):
            return parts
        case Comprehension():
            return (node.over, node.start, node.condition, node.step, node.result)
        case _:
            return ()


def walk(node: Expression) -> Iterator[Expression]:
    """`node` and everything in it, outermost first."""
    yield node
    for child in children(node):
        yield from walk(child)


def _expression(message: "_Message") -> Expression:
    kind = next((number for number in range(3, 10) if message.has(number)), None)
    if kind is None:
        raise UnreadableSyntax("the compiled condition holds a node of no known kind")
    part = message.message(kind)
    match kind:
        case 3:
            return Constant(_constant(part))
        case 4:
            return Name(part.text(1))
        case 5:
            return Select(_expression(part.message(1)), part.text(2), tests=bool(part.number(3)))
        case 6:
            target = _expression(part.message(1)) if part.has(1) else None
            return Call(part.text(2), target, _expressions(part, 3))
        case 7:
            return ListOf(_expressions(part, 1))
        case 8:
            return MapOf(tuple(_map_parts(part)))
        case _:
            return _comprehension(part)


def _expressions(message: "_Message", number: int) -> tuple[Expression, ...]:
    return tuple(_expression(item) for item in message.messages(number))


def _map_parts(message: "_Message") -> Iterator[Expression]:
    for entry in message.messages(2):
        yield _expression(entry.message(3)) if entry.has(3) else Constant(entry.text(2))
        yield _expression(entry.message(4))


def _comprehension(message: "_Message") -> Comprehension:
    return Comprehension(
        over=_expression(message.message(2)),
        variables=tuple(message.text(number) for number in (1, 8) if message.has(number)),
        accumulator=message.text(3),
        start=_expression(message.message(4)),
        condition=_expression(message.message(5)),
        step=_expression(message.message(6)),
        result=_expression(message.message(7)),
    )


def _constant(message: "_Message") -> Scalar:
    if message.has(2):
        return bool(message.number(2))
    if message.has(3):
        value = message.number(3)
        return value - (1 << 64) if value >= 1 << 63 else value
    if message.has(4):
        return message.number(4)
    if message.has(5):
        (double,) = struct.unpack("<d", message.raw(5))
        return float(double)
    if message.has(6):
        return message.text(6)
    if message.has(7):
        return message.raw(7)
    return None


class _Message:
    """One message in the protocol buffers' wire format: numbered fields, each a number or bytes, some repeated."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        position = 0
        while position < len(data):
            tag, position = _variable_integer(data, position)
            value: int | bytes
            match tag & 7:
                case 0:
                    value, position = _variable_integer(data, position)
                case 1:
                    value, position = data[position : position + 8], position + 8
                case 2:
                    size, position = _variable_integer(data, position)
                    value, position = data[position : position + size], position + size
                case 5:
                    value, position = data[position : position + 4], position + 4
                case wire_type:
                    raise UnreadableSyntax(f"the compiled condition has a field of wire type {wire_type}")
            if position > len(data):
                raise UnreadableSyntax("the compiled condition ends in the middle of a field")
            self._fields.setdefault(tag >> 3, []).append(value)

    def has(self, number: int) -> bool:
        return number in self._fields

    def number(self, number: int) -> int:
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise UnreadableSyntax(f"field {number} of the compiled condition is not a number")
        return value

    def raw(self, number: int) -> bytes:
        value = self._fields.get(number, [b""])[-1]
        if not isinstance(value, bytes):
            raise UnreadableSyntax(f"field {number} of the compiled condition is not text")
        return value

    def text(self, number: int) -> str:
        return self.raw(number).decode()

    def message(self, number: int) -> "_Message":
        return _Message(self.raw(number))

    def messages(self, number: int) -> "Iterator[_Message]":
        for value in self._fields.get(number, []):
            if not isinstance(value, bytes):
                raise UnreadableSyntax(f"field {number} of the compiled condition is not a message")
            yield _Message(value)


def _variable_integer(data: bytes, position: int) -> tuple[int, int]:
    """A base-128 number and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
