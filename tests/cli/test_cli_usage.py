"""The shape of the command line: what there is, how it fails, and that the docs know."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from support.workspace import Workspace
from typer.testing import CliRunner

from holdfast_server.cli.app import app
from holdfast_server.cli.failures import EXITS
from holdfast_server.version import VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

runner = CliRunner()


def commands(group: typer.Typer = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for command in group.registered_commands:
        yield (*path, str(command.name))
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from commands(below.typer_instance, (*path, str(below.typer_instance.info.name)))


COMMANDS = list(commands())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_is_in_the_docs(words: tuple[str, ...]) -> None:
    shown = runner.invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert f"`holdfast {' '.join(words)}" in PAGE
    assert words == ("serve",) or "--json" in shown.output


def test_every_exit_code_is_in_the_docs_in_the_same_words() -> None:
    documented = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE))
    assert documented == {str(found.code): found.meaning for found in EXITS}


@pytest.mark.parametrize("words", [w for w in COMMANDS if w not in {("init",), ("version",)}], ids=" ".join)
def test_a_config_that_does_not_exist_is_an_error_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    extra = {
        "show": ["an-id"],
        "approve": ["an-id"],
        "reject": ["an-id", "--reason", "no"],
        "resume": ["an-id"],
        "cancel": ["an-id"],
        "resolve": ["an-id", "--outcome", "done", "--reason", "seen"],
        "explain": ["a__b"],
        "serve": ["--in-process"],
    }
    result = runner.invoke(app, [*words, str(tmp_path / "none.yaml"), *extra.get(words[-1], [])])
    failed_check = words == ("doctor",)
    assert result.exit_code == (1 if failed_check else 2), result.output
    assert "there is no such file" in (result.output if failed_check else result.stderr)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["serve"], ["calls", "list", "x", "--status", "odd"], ["approvals", "list", "x", "--limit", "0"]],
)
def test_a_wrong_command_line_ends_with_code_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--http", "nowhere"], "names no port"),
        (["--http", "::1:80"], "write an IPv6 host in brackets"),
        (["--http", "127.0.0.1:99999"], "names no port"),
        (["--http", ":80", "--in-process"], "do not go together"),
        (["--http", ":80", "--as", "anna"], "do not go together"),
    ],
)
def test_serve_says_what_is_wrong_with_its_options(options: list[str], told: str) -> None:
    result = runner.invoke(app, ["serve", "x.yaml", *options])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert told in result.stderr


def test_the_version_is_that_of_the_package() -> None:
    assert runner.invoke(app, ["version"]).stdout == f"{VERSION}\n"


def test_help_does_not_load_what_only_commands_need(workspace: Workspace) -> None:
    import subprocess
    import sys

    heavy = ["pydantic", "yaml", "mcp", "rich", "holdfast_policy.decide", "jsonschema_rs", "aiosqlite"]
    code = (
        "import sys; from typer.testing import CliRunner; from holdfast_server.cli.app import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
