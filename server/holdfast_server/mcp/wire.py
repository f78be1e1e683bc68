"""What is refused before anything parses it: messages that two parsers may read differently, or that exhaust one.

A parser keeps the last of two equal keys, so what was checked by one that keeps the first is not what runs (RFC 8259,
section 4); one that descends by recursion ends its process on what is nested too deeply (section 9).
"""

import json
import re
from typing import Any

from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCError
from mcp_types.jsonrpc import ErrorData, RequestId

MAX_DEPTH = 160
"""How many objects and arrays may be open at once, the message itself included."""

OVERHEAD_BYTES = 64 * 1024
"""What a message may carry beyond its arguments: names, `_meta`, the envelope."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?')
_BRACKET = re.compile(rb"[\[\]{}]")
_ID_FIRST = re.compile(rb'^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*[,}]')
_ID_LAST = re.compile(rb',\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
_LONGEST_ID = 256
KEPT_BYTES = 2 * _LONGEST_ID


class Refused(Exception):
    """A message that is not taken in: the JSON-RPC error code, and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    def answer(self, request: RequestId | None) -> JSONRPCError:
        """The error that goes to whoever sent it."""
        return JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(code=self.code, message=str(self)))


class TooLong(Refused):
    """The message is longer than any that is taken in."""

    def __init__(self) -> None:
        super().__init__(
            INVALID_REQUEST, "The message is too long. Nothing ran. Send less, or a reference to the data."
        )


def longest_message(max_arguments_bytes: int) -> int:
    """How many bytes a message may have, where its arguments may have `max_arguments_bytes`."""
    return max_arguments_bytes + OVERHEAD_BYTES


def check(message: bytes) -> None:
    """Raise `Refused` where `message` is no JSON, names a key twice in one object, or is nested too deeply.

    Linear in its length.
    """
    if message.count(b"{") + message.count(b"[") > MAX_DEPTH and _depth(message) > MAX_DEPTH:
        raise Refused(INVALID_REQUEST, f"The message is nested deeper than {MAX_DEPTH} levels. Nothing ran.")
    try:
        json.loads(message, object_pairs_hook=_without_duplicates)
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused(PARSE_ERROR, f"The message is not valid JSON: {error}. Nothing ran.") from error


def id_of(message: bytes) -> RequestId | None:
    """The id of a request that was not parsed, where it stands first or last, as SDKs write it; else None."""
    found = _ID_FIRST.search(message[:KEPT_BYTES]) or _ID_LAST.search(message[-2 * _LONGEST_ID :])
    if found is None or len(found[1]) > _LONGEST_ID:
        return None
    request: RequestId = json.loads(found[1])
    return request


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused(INVALID_REQUEST, f"The message names {twice!r} twice in one object. Nothing ran.")
    return found


def _depth(message: bytes) -> int:
    """How many brackets are open at once, at most; those within strings do not count."""
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", message)):
        depth += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
