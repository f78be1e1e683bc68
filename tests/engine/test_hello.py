"""The line that opens a connection, and the line that answers it."""

import hashlib
import json

import pytest

from holdfast_server.engine.hello import (
    ADMIN,
    AGENT,
    Answer,
    BadHello,
    Hello,
    config_digest,
    differing_variables,
    read_answer,
    read_hello,
    variable_digests,
)
from holdfast_server.engine.lines import LineBuffer

ONE = config_digest(b"one")
OTHER = config_digest(b"other")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_hello_is_one_line_of_json_and_comes_back_as_it_was() -> None:
    line = Hello(ADMIN, ONE, {"KEY": digest("v")}, "ann", "token", "1.2").line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["holdfast"] == 1
    hello = read_hello(line)
    assert (hello.endpoint, hello.config_digest, hello.principal, hello.token) == (ADMIN, ONE, "ann", "token")
    assert hello.variables == {"KEY": digest("v")}
    assert hello.version == "1.2"


def test_an_answer_comes_back_as_it_was() -> None:
    served = read_answer(Answer(7, "1.2", warning="old").line())
    assert (served.ok, served.pid, served.version, served.warning, served.restart) == (True, 7, "1.2", "old", False)
    refused = read_answer(Answer(7, "1.2", ok=False, error="no", restart=True).line())
    assert (refused.ok, refused.error, refused.restart) == (False, "no", True)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage\n",
        b"\xff\n",
        b"[" * 100_000,
        b"[1]\n",
        b"{}\n",
        b'{"holdfast":2,"endpoint":"agent","config_digest":"x"}\n',
        b'{"holdfast":1,"endpoint":"root","config_digest":"x"}\n',
        b'{"holdfast":1,"endpoint":"agent"}\n',
        b'{"holdfast":1,"endpoint":"agent","config_digest":"x","variables":{"A":1}}\n',
        b'{"holdfast":1,"endpoint":"agent","config_digest":"x","principal":1}\n',
        b'{"holdfast":1,"endpoint":"agent","config_digest":"x","version":1}\n',
    ],
)
def test_a_line_of_another_shape_is_refused(line: bytes) -> None:
    with pytest.raises(BadHello):
        read_hello(line)
    with pytest.raises(BadHello):
        read_answer(line)


def test_another_protocol_is_refused_with_the_mend() -> None:
    with pytest.raises(BadHello, match=r"speaks protocol 1, the caller 2.*engine restart"):
        read_hello(b'{"holdfast":2}\n')


def test_variables_are_found_without_parsing_the_config() -> None:
    config = b"""{"a": "${PLAIN} and ${DEFAULTED:-x}", "b": "$${ESCAPED}", "c": "${UNSET}", "d": "${EMPTY:-y}"}
      # ${IN_A_COMMENT}
    """
    environ = {"PLAIN": "p", "DEFAULTED": "d", "ESCAPED": "e", "EMPTY": "", "IN_A_COMMENT": "c"}
    assert variable_digests(config, environ) == {"PLAIN": digest("p"), "DEFAULTED": digest("d")}


def test_with_equal_configs_a_variable_that_one_did_not_set_differs() -> None:
    mine = Hello(AGENT, ONE, {"A": "1", "B": "1"})
    assert differing_variables(mine, Hello(AGENT, ONE, {"A": "1", "B": "1"})) == ()
    assert differing_variables(mine, Hello(AGENT, ONE, {"B": "2", "C": "1"})) == ("A", "B", "C")


def test_with_other_configs_only_what_both_use_is_compared() -> None:
    mine = Hello(AGENT, ONE, {"A": "1", "B": "1"})
    assert differing_variables(mine, Hello(AGENT, OTHER, {"B": "2", "C": "1"})) == ("B",)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_come_out_the_same_however_they_are_cut(size: int) -> None:
    data = b"first\n\r\nsecond\rstill\n\nlast without end"
    buffer, lines = LineBuffer(), []
    for start in range(0, len(data), size):
        lines += buffer.feed(data[start : start + size])
    assert lines == [b"first\n", b"\r\n", b"second\rstill\n", b"\n"]
    assert buffer.rest() == b"last without end"
    assert buffer.rest() == b""
