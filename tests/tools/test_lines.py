"""From bytes to messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from holdfast_tools.downstream.lines import Flaw, LineSplitter, Overlong, parse
from holdfast_tools.downstream.stderr import KEPT_LINES, LINE_CHARACTERS, StderrTail


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_the_same_however_the_bytes_are_cut(lines: list[bytes], size: int) -> None:
    whole = b"\n".join(lines)
    splitter = LineSplitter()
    found = [line for at in range(0, len(whole), size) for line in splitter.feed(whole[at : at + size])]
    rest = splitter.rest()
    assert [*found, *([rest] if rest is not None else [])] == [
        *whole.split(b"\n")[:-1],
        *([whole.split(b"\n")[-1]] if whole.split(b"\n")[-1] else []),
    ]


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_a_line_beyond_the_limit_keeps_its_ends_and_the_next_is_whole(size: int) -> None:
    long = b'{"jsonrpc":"2.0","id":41,"result":{"t":"' + b"x" * 1000 + b'"}}'
    data = long + b"\nshort\n"
    splitter = LineSplitter(limit=500)
    found = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
    overlong, short = found
    assert isinstance(overlong, Overlong)
    assert overlong.id == 41
    assert short == b"short"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (b'{"jsonrpc": "2.0", "id": "a-1", "result": {', b"}}", "a-1"),
        (b'{"id":3,"jsonrpc":"2.0","result":', b"}}", 3),
        (b'{"result":{"id":9,', b'},"jsonrpc":"2.0","id":4}', 4),
        (b'{"result":{"id":9,', b'},"id":5,"jsonrpc":"2.0"}\r', 5),
        (b'{"jsonrpc":"2.0","method":"x","params":{"id":6,', b"}}", None),
    ],
)
def test_the_ends_of_an_answer_give_its_id_away(start: bytes, end: bytes, expected: object) -> None:
    assert Overlong(start, end).id == expected


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"m"}', JSONRPCRequest),
        (b'{"jsonrpc":"2.0","method":"m","params":{}}\r', JSONRPCNotification),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', JSONRPCResponse),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}', JSONRPCError),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}', JSONRPCError),
    ],
)
def test_messages_are_told_apart_by_their_keys(line: bytes, kind: type) -> None:
    parsed = parse(line)
    assert isinstance(parsed.message, kind)
    assert parsed.flaw is None


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        (b"", None),
        (b"  \r", None),
        (b"hello", Flaw.NOT_JSON),
        (b"caf\xe9", Flaw.NOT_UTF8),
        (b"17", Flaw.NOT_JSONRPC),
        (b'{"level":"info"}', Flaw.NOT_JSONRPC),
    ],
)
def test_what_is_no_message_is_skipped_with_its_flaw(line: bytes, flaw: Flaw | None) -> None:
    assert parse(line).message is None
    assert parse(line).flaw is flaw


def test_a_broken_answer_becomes_an_error_of_its_request() -> None:
    parsed = parse(b'{"jsonrpc":"2.0","id":8,"result":[1]}')
    assert isinstance(parsed.message, JSONRPCError)
    assert parsed.message.id == 8
    assert parsed.flaw is Flaw.NOT_JSONRPC


def test_the_tail_of_stderr_is_bounded_clean_and_without_secrets() -> None:
    tail = StderrTail("s", secrets=["hunter22", "ab"])
    for number in range(100):
        tail.feed(f"\x1b[31mline {number}\x1b[0m\r\n\n".encode())
    tail.feed(b"x" * 10_000 + b"\npassword hunter22 ab, caf\xe9 and no line end")
    assert len(tail.lines) == KEPT_LINES
    assert tail.lines[-1] == "password *** ab, caf\N{REPLACEMENT CHARACTER} and no line end"
    assert len(tail.lines[-2]) == LINE_CHARACTERS + 1
    assert tail.lines[-3] == "line 99"
