"""The page of promises names tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
HELD_BY = re.compile(r"`(?P<file>[\w/]+\.py)`|`(?P<test>test_\w+)`")


def named_tests() -> list[tuple[str, str]]:
    """File and name of every test that the page names; a name belongs to the file before it."""
    found: list[tuple[str, str]] = []
    file = ""
    for match in HELD_BY.finditer(PAGE):
        file = match["file"] or file
        if match["test"]:
            found.append((file, match["test"]))
    return found


@pytest.mark.parametrize(("file", "test"), sorted(set(named_tests())))
def test_every_test_that_is_said_to_hold_a_promise_exists(file: str, test: str) -> None:
    functions = ast.parse((ROOT / "tests" / file).read_text()).body
    assert test in {each.name for each in functions if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_promise_names_a_test() -> None:
    promises = PAGE[: PAGE.index("## How it is tested")]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "| held by |" not in line]
    assert [row for row in rows if not re.search(r"`test_\w+`", row)] == []
    assert len(rows) > 30
