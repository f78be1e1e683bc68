"""A client's file is read with its comments, and edited without touching anything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_server.cli import jsonc

COMMENTED = """\
// what I use
{
    "inputs": [], /* none yet */
    "servers": {
        // the first
        "git": {"command": "uvx", "args": ["mcp-server-git",],},
        "url": {"url": "https://a.example/mcp"}, // not a comment: "//"
    },
    "last": "kept // as it is",
}
"""


def test_comments_and_trailing_commas_are_read_over() -> None:
    assert jsonc.parse(COMMENTED).value == {
        "inputs": [],
        "servers": {
            "git": {"command": "uvx", "args": ["mcp-server-git"]},
            "url": {"url": "https://a.example/mcp"},
        },
        "last": "kept // as it is",
    }


def test_replacing_a_value_leaves_everything_around_it_as_it_was() -> None:
    edited = jsonc.replaced(COMMENTED, ("servers",), {"holdfast": {"command": "holdfast"}})
    before, after = COMMENTED.split('"servers": ')[0], ',\n    "last"'
    assert edited.startswith(before)
    assert edited.endswith(after + COMMENTED.split(after)[1])
    assert '\n        "holdfast": {\n            "command"' in edited
    assert jsonc.parse(edited).value["servers"] == {"holdfast": {"command": "holdfast"}}


def test_windows_line_ends_stay() -> None:
    edited = jsonc.replaced('{\r\n\t"servers": {}\r\n}\r\n', ("servers",), {"a": 1})
    assert edited == '{\r\n\t"servers": {\r\n\t\t"a": 1\r\n\t}\r\n}\r\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [("", 1), ("{", 1), ('{\n"a": 1\n"b": 2}', 3), ("{\n'a': 1}", 2), ("{}\n{}", 2), ('{"a": }', 1), ("[" * 1000, 1)],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(jsonc.NotJson) as raised:
        jsonc.parse(text)
    assert raised.value.line == line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 1, 4, "\t"]))
def test_all_json_means_here_what_it_means_to_json(value: object, indent: int | str | None) -> None:
    assert jsonc.parse(json.dumps(value, indent=indent)).value == value


@given(st.dictionaries(st.text(min_size=1), JSON, min_size=1, max_size=4), JSON)
def test_a_replaced_value_is_the_only_one_that_changes(values: dict[str, object], fresh: object) -> None:
    key = next(iter(values))
    edited = jsonc.replaced(json.dumps(values, indent=2, ensure_ascii=False), (key,), fresh)
    assert jsonc.parse(edited).value == {**values, key: fresh}
