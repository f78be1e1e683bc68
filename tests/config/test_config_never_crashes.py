"""Whatever the bytes of a config file: it loads, or it is refused with sentences. Nothing else ever happens."""

import json
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast_server.config import Config, load
from holdfast_server.config.problems import ConfigProblems
from holdfast_server.config.shape import TOP_LEVEL_SECTIONS, GatewayShape

SAMPLE = Path(__file__).with_name("sample.yaml").read_text()

FRAGMENTS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "\n",
        "  ",
        "\t",
        "${",
        "&a ",
        "*a",
        "!!int ",
        "? ",
        "| ",
        "> ",
        "'",
        '"',
        "\\",
        "#",
    ),
    *(
        "null",
        "true",
        "-1",
        "1e999",
        ".inf",
        "0x1",
        "10m",
        "\0",
        "\ufeff",
        "\u2028",
        "\ud83d",
        "<<: ",
        "---\n",
        "%YAML 1.2\n",
    ),
    *("a" * 300, "9" * 40, "http://[", "sqlite:///", "args.", "(" * 200, "\U0001f600", "~", "/", "..", "=", "__"),
)

SECTIONS = (*TOP_LEVEL_SECTIONS, *GatewayShape.model_fields)


def load_bytes(content: bytes) -> Config | None:
    """The config in `content`; None where it was refused properly."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "holdfast.yaml"
        file.write_bytes(content)
        try:
            return load(file, {"HOME": folder, "TOKEN": "0123456789abcdef"})
        except ConfigProblems as error:
            problems = error.problems
    text = content.decode("utf-8", "replace")
    last_line = sum(text.count(separator) for separator in "\n\r\x85\u2028\u2029") + 2
    assert problems
    for problem in problems:
        assert 0 <= problem.line <= last_line
        assert problem.cause
        assert problem.mend
    return None


def test_the_sample_itself_loads() -> None:
    assert load_bytes(SAMPLE.encode()) is not None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_a_mutated_config_is_refused_with_sentences_or_loads(chance: random.Random, mutations: int) -> None:
    text = SAMPLE
    for _ in range(mutations):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at] + chance.choice(FRAGMENTS) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randrange(1, 20) :]
            case 2:
                other = chance.randrange(len(text) + 1)
                text = text[:at] + text[other : other + chance.randrange(1, 60)] + text[at:]
            case _:
                lines = text.splitlines(keepends=True)
                chance.shuffle(lines) if chance.random() < 0.1 else lines.reverse()
                text = "".join(lines) if chance.random() < 0.2 else text
    load_bytes(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_sentences(content: bytes) -> None:
    load_bytes(content)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=10,
    ),
    st.sampled_from(SECTIONS),
)
def test_any_value_under_any_key_is_refused_with_sentences_or_loads(value: object, key: str) -> None:

    document = {"mcpServers": {"a": {"command": "x"}}, key: value}
    load_bytes(json.dumps(document).encode())


def test_deep_nesting_is_refused() -> None:
    assert load_bytes(b"[" * 100_000) is None
    assert load_bytes(b"a: " + b"{b: " * 5_000) is None


def test_a_bomb_of_aliases_is_refused() -> None:
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert load_bytes(b"x0: &x0 [a]\n" + levels.encode()) is None
