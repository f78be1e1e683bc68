"""Messages that parsers read differently, or that exhaust them, are refused before any parser sees them."""

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_server.engine.lines import KEPT_BYTES, LineBuffer, Overlong
from holdfast_server.mcp.wire import MAX_DEPTH, Refused, check, id_of

LIMIT = 8 * KEPT_BYTES

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@given(VALUES)
def test_whatever_a_serialiser_writes_is_taken_in(value):
    check(json.dumps(value).encode())


@pytest.mark.parametrize("message", [b'{"a": 1, "a": 1}', b'{"x": [{"id": 1, "b": 2, "\\u0069d": 1}]}'])
def test_a_key_named_twice_is_refused_however_it_is_written(message):
    with pytest.raises(Refused, match="twice in one object"):
        check(message)


def test_the_same_key_in_two_objects_is_fine():
    check(b'[{"a": 1}, {"a": {"a": 2}}]')


def test_the_deepest_message_is_taken_in_and_one_level_more_is_not():
    check(nested(MAX_DEPTH))
    with pytest.raises(Refused, match="nested deeper"):
        check(nested(MAX_DEPTH + 1))


def test_a_million_levels_are_refused_and_not_descended():
    with pytest.raises(Refused, match="nested deeper"):
        check(nested(1_000_000))


def test_brackets_in_strings_nest_nothing():
    check(json.dumps({"text": '\\"[[[{{{' * MAX_DEPTH, "more": ["]"] * MAX_DEPTH}).encode())


@pytest.mark.parametrize("message", [b"", b"{", b"nonsense", b'{"a": tru}', b"\xff\xfe", b'"' * 1001])
def test_what_is_no_json_is_a_parse_error(message):
    with pytest.raises(Refused, match="not valid JSON") as refused:
        check(message)
    assert refused.value.code == -32700


@pytest.mark.parametrize(
    ("message", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"x"}', 7),
        (b'{"id": "a\\"b", "jsonrpc": "2.0", "method": "x"}', 'a"b'),
        (b'{"method":"x","params":{"id":1},"jsonrpc":"2.0","id":8}', 8),
        (b'{"method":"x","params":{},"id":9,"jsonrpc":"2.0"}\n', 9),
        (b'{"method":"x","params":{"id":1}}', None),
        (b"nonsense", None),
    ],
)
def test_the_request_is_named_where_its_id_stands_first_or_last(message, request_id):
    assert id_of(message) == request_id


@given(st.lists(st.integers(min_value=0, max_value=3 * LIMIT), max_size=6), st.integers(min_value=1, max_value=LIMIT))
def test_lines_come_whole_up_to_the_limit_and_only_their_ends_beyond_it(sizes, chunk_size):
    sent = [bytes([97 + number]) * size for number, size in enumerate(sizes)]
    stream = b"".join(line + b"\n" for line in sent)
    buffer = LineBuffer(LIMIT)
    chunks = (stream[start : start + chunk_size] for start in range(0, len(stream), chunk_size))
    lines = [line for chunk in chunks for line in buffer.feed(chunk)]
    assert [isinstance(line, Overlong) for line in lines] == [size > LIMIT for size in sizes]
    for line, given_line in zip(lines, sent, strict=True):
        ends = given_line[:KEPT_BYTES] + given_line[-KEPT_BYTES:]
        assert line == (ends if isinstance(line, Overlong) else given_line) + b"\n"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","method":"ping"}', 400, "twice"),
        (b'{"jsonrpc":"2.0","id":5,"method":"x","params":' + nested(100_000) + b"}", 400, "nested"),
        (b'{"jsonrpc":"2.0","id":5,"method":"x","params":"' + b"x" * 3_000_000 + b'"}', 413, "too long"),
    ],
)
async def test_over_http_it_is_refused_by_its_id(started, body, status, words):
    service = started()
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(service.url, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["id"] == 5
    assert words in answer.json()["error"]["message"]
