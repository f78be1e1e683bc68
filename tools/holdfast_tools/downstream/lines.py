"""From bytes to JSON-RPC messages, in time linear in their number, whatever else is among them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import pydantic_core
from mcp_types import (
    CONNECTION_CLOSED,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic import ValidationError

from holdfast_tools.sdk import UNREADABLE

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line, and so the largest answer, that is taken from a child's stdout."""

_ENDS_BYTES = 256
_ID = rb'"id"\s*:\s*(\d+|"[^"\\]*")'
_ID_AT_START = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + rb"\s*,")
_ID_AT_END = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line beyond the limit: only its ends were kept."""

    start: bytes
    end: bytes

    @property
    def id(self) -> int | str | None:
        """The id of the request that the line answers, where its ends give it away."""
        found = _ID_AT_START.match(self.start) or _ID_AT_END.search(self.end)
        if found is None:
            return None
        text = found.group(1).decode(errors="replace")
        return text[1:-1] if text.startswith('"') else int(text)


class LineSplitter:
    """Cuts a stream of chunks into lines, without the line ends. Keeps no more than one line of `limit` bytes."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._start = b""
        self._end = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | Overlong]:
        """The lines that `chunk` completes."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            yield self._take()
        if rest:
            self._add(rest)

    def rest(self) -> bytes | Overlong | None:
        """What came after the last line end, or None."""
        return self._take() if self._size else None

    def _add(self, part: bytes) -> None:
        if self._size <= self._limit < self._size + len(part):
            self._start = b"".join((*self._parts, part[:_ENDS_BYTES]))[:_ENDS_BYTES]
            self._parts.clear()
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
        self._end = part[-_ENDS_BYTES:] if len(part) >= _ENDS_BYTES else (self._end + part)[-_ENDS_BYTES:]

    def _take(self) -> bytes | Overlong:
        line = b"".join(self._parts) if self._size <= self._limit else Overlong(self._start, self._end)
        self._parts.clear()
        self._size, self._end = 0, b""
        return line


class Flaw(StrEnum):
    """What can be wrong with a line, in words that follow the downstream's name."""

    NOT_UTF8 = "writes text to stdout that is not UTF-8"
    NOT_JSON = "writes something other than JSON to stdout; a server's own messages belong on stderr"
    NOT_JSONRPC = "writes JSON to stdout that is not JSON-RPC 2.0"
    TOO_LONG = "wrote a line to stdout that is longer than any answer may be"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a line amounts to: a message or none, and what was wrong with it."""

    message: JSONRPCMessage | None
    flaw: Flaw | None = None


def parse(line: bytes | Overlong, limit: int = MAX_LINE_BYTES) -> Parsed:
    """The message of a line.

    An answer that is broken becomes an error of the same id (`sdk.UNREADABLE`), so that nobody waits for it. Bytes
    that are not UTF-8 are replaced: the answer to a call is worth more than its spelling.
    """
    if isinstance(line, Overlong):
        reason = f"it is longer than {limit // (1024 * 1024)} MiB"
        return Parsed(_unreadable(line.id, reason) if line.id is not None else None, Flaw.TOO_LONG)
    if not line.strip():
        return Parsed(None)
    try:
        value = pydantic_core.from_json(line)
    except ValueError:
        return _parse_damaged(line)
    return _message(value, None)


def _parse_damaged(line: bytes) -> Parsed:
    try:
        line.decode()
    except UnicodeDecodeError:
        try:
            value = pydantic_core.from_json(line.decode(errors="replace"))
        except ValueError:
            return Parsed(None, Flaw.NOT_UTF8)
        return _message(value, Flaw.NOT_UTF8)
    return Parsed(None, Flaw.NOT_JSON)


def _message(value: object, flaw: Flaw | None) -> Parsed:
    if not isinstance(value, dict):
        return Parsed(None, flaw or Flaw.NOT_JSONRPC)
    request_id = value.get("id")
    answers = ("result" in value or "error" in value) and "method" not in value
    model: type[JSONRPCRequest | JSONRPCNotification | JSONRPCResponse | JSONRPCError]
    if answers:
        model = JSONRPCResponse if "result" in value else JSONRPCError
    else:
        model = JSONRPCRequest if "id" in value else JSONRPCNotification
    try:
        return Parsed(model.model_validate(value, by_name=False), flaw)
    except ValidationError:
        known = answers and isinstance(request_id, int | str) and not isinstance(request_id, bool)
        return Parsed(_unreadable(request_id, "it is not JSON-RPC 2.0") if known else None, Flaw.NOT_JSONRPC)


def _unreadable(request_id: object, reason: str) -> JSONRPCError:
    error = ErrorData(code=CONNECTION_CLOSED, message=f"{UNREADABLE}{reason}")
    return JSONRPCError.model_validate({"jsonrpc": "2.0", "id": request_id, "error": error})
