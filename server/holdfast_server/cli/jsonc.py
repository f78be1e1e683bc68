"""JSON as MCP clients keep it: with comments and trailing commas, edited without touching anything else.

A value is replaced by its place in the text, so that comments, order and layout around it stay as their owner wrote
them. Keys that stand twice mean the last one, as in the clients' own readers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_store.model.errors import ConfigError

MAX_DEPTH = 200

_BLANK = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_DECODER = json.JSONDecoder()


class NotJson(ConfigError):
    """The text cannot be read. `line` counts from 1."""

    def __init__(self, line: int, cause: str) -> None:
        super().__init__(f"line {line}: {cause}")
        self.line = line
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands, `text[start:end]`. `members` are an object's values by key."""

    value: Any
    start: int
    end: int
    members: Mapping[str, "Node"] = field(default_factory=dict)


def parse(text: str) -> Node:
    """The one value of `text`. Raises `NotJson`."""
    node, position = _value(text, _skip(text, 0), 0)
    rest = _skip(text, position)
    if rest != len(text):
        raise _problem(text, rest, "something follows the end of the document")
    return node


def find(node: Node, path: Sequence[str]) -> Node | None:
    """The value under the keys of `path`, None where there is none."""
    found: Node | None = node
    for key in path:
        found = found.members.get(key) if found is not None else None
    return found


def replaced(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with the existing value at `path` replaced by `value`, in the file's own layout. Raises `NotJson`."""
    node = find(parse(text), path)
    if node is None:
        raise KeyError("/".join(path))
    line_break = "\r\n" if "\r\n" in text else "\n"
    indent = _indent_of(text)
    line = text[text.rfind("\n", 0, node.start) + 1 : node.start]
    before = line[: len(line) - len(line.lstrip(" \t"))]
    written = json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", line_break + before)
    return text[: node.start] + written + text[node.end :]


def _indent_of(text: str) -> str:
    """What the first indented line begins with; two spaces where none is."""
    first = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return first[1] if first else "  "


def _value(text: str, start: int, depth: int) -> tuple[Node, int]:
    if depth > MAX_DEPTH:
        raise _problem(text, start, f"nested deeper than {MAX_DEPTH} levels")
    opening = text[start : start + 1]
    if opening == "{":
        return _object(text, start, depth)
    if opening == "[":
        return _array(text, start, depth)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except ValueError as error:
        cause = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise _problem(text, start, f"not JSON: {cause}") from None
    return Node(value, start, end), end


def _object(text: str, start: int, depth: int) -> tuple[Node, int]:
    members: dict[str, Node] = {}
    position = _skip(text, start + 1)
    while text[position : position + 1] != "}":
        key, position = _value(text, position, depth + 1)
        if not isinstance(key.value, str):
            raise _problem(text, key.start, "a key must be a text in double quotes")
        position = _expect(text, _skip(text, position), ":")
        members[key.value], position = _value(text, _skip(text, position), depth + 1)
        position = _separator(text, position, "}")
    end = position + 1
    return Node({key: member.value for key, member in members.items()}, start, end, members), end


def _array(text: str, start: int, depth: int) -> tuple[Node, int]:
    values = []
    position = _skip(text, start + 1)
    while text[position : position + 1] != "]":
        item, position = _value(text, position, depth + 1)
        values.append(item.value)
        position = _separator(text, position, "]")
    return Node(values, start, position + 1), position + 1


def _separator(text: str, position: int, closing: str) -> int:
    """Where the next item or the `closing` bracket stands."""
    position = _skip(text, position)
    if text[position : position + 1] == closing:
        return position
    return _skip(text, _expect(text, position, ","))


def _expect(text: str, position: int, character: str) -> int:
    if text[position : position + 1] != character:
        found = repr(text[position]) if position < len(text) else "the end of the file"
        raise _problem(text, position, f"expected {character!r}, found {found}")
    return position + 1


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank is not None else position


def _problem(text: str, position: int, cause: str) -> NotJson:
    return NotJson(text.count("\n", 0, position) + 1, cause)
