"""`${VAR}` and `${VAR:-default}`."""

import hashlib
from pathlib import Path

import pytest

from holdfast_server.config import load
from holdfast_server.config.variables import Expanded, Variables
from holdfast_server.engine.hello import variable_digests
from holdfast_tools.downstream.spec import HttpSpec, StdioSpec

ENVIRON = {"NAME": "value", "BYTES": "\udcff", "EMPTY": "", "HOME": "/nowhere"}


def expanded(text: str) -> tuple[str, list[str]]:
    """`text` expanded by `ENVIRON`, and what was complained of."""
    complaints: list[str] = []
    result = Variables(ENVIRON).expand(text, lambda cause, mend: complaints.append(f"{cause}; {mend}"))
    return result, complaints


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${NAME}", "value"),
        ("a ${NAME} and ${NAME}", "a value and value"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${NAME:-other}", "value"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("$NAME", "$NAME"),
        ("$${NAME}", "${NAME}"),
        ("100$ {x}", "100$ {x}"),
    ],
)
def test_references_are_replaced_as_a_shell_would(text: str, result: str) -> None:
    assert expanded(text) == (result, [])


def test_a_value_is_not_expanded_again() -> None:
    assert Variables({"A": "${B}", "B": "c"}).expand("${A}", lambda *_: None) == "${B}"


@pytest.mark.parametrize(
    "text", ["${UNSET}", "${}", "${a b}", "${env:X}", "${input:key}", "${NAME", "${1}", "${BYTES}"]
)
def test_what_cannot_be_replaced_is_complained_of_and_left(text: str) -> None:
    result, complaints = expanded(text)
    assert result == text
    assert len(complaints) == 1


def test_only_texts_out_of_variables_may_stand_for_other_types() -> None:
    assert isinstance(expanded("${NAME}")[0], Expanded)
    assert not isinstance(expanded("$${NAME}")[0], Expanded)


def test_variables_expand_in_every_text_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text(
        "mcpServers:\n  a: {command: '${C}', args: ['${C}'], env: {K: '${C}'}}\n"
        "  b: {url: '${U}', headers: {A: '${C}'}}\n"
        "naming: {prefix: '${P:-false}'}\nlimits: {max_arguments_bytes: '${L}'}\ninline_wait: ${W}\npreset: ${S}\n"
    )
    environ = {"HOME": str(tmp_path), "C": "c", "U": "http://u", "L": "2048", "W": "9s", "S": "strict"}
    config = load(file, environ)
    first, second = (spec.transport for spec in config.downstreams)
    assert first == StdioSpec("c", ("c",), {"K": "c"}, str(tmp_path))
    assert second == HttpSpec("http://u", {"A": "c"})
    assert (config.prefix, config.max_arguments_bytes, config.inline_wait_s, config.preset) == (
        False,
        2048,
        9.0,
        "strict",
    )


def test_the_digests_of_used_variables_are_those_the_shim_sends(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text("# ${COMMENT}\nmcpServers:\n  a: {command: '${A}', args: ['${B:-x}', '${C:-y}', '$${D}']}\n")
    environ = {"HOME": str(tmp_path), "A": "caf\u00e9", "B": "b", "C": "", "D": "d", "COMMENT": "no"}
    config = load(file, environ)
    assert config.variables == variable_digests(file.read_bytes(), environ)
    assert config.variables["B"] == hashlib.sha256(b"b").hexdigest()
    assert set(config.variables) == {"A", "B"}
