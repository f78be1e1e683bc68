"""Servers that other people wrote."""

import subprocess
import sys
from pathlib import Path

import pytest
from watching import DEADLINE_S, running, text_of

from holdfast_tools.downstream.attempt import Answered
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.schema import ToolSchema

BIN = Path(sys.executable).parent


def installed(name: str, *arguments: str) -> DownstreamSpec:
    return DownstreamSpec(name, StdioSpec(str(BIN / f"mcp-server-{name}"), arguments), connect_timeout_s=DEADLINE_S)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


async def test_the_time_server_is_listed_and_answers() -> None:
    async with running(installed("time")) as watched:
        assert watched.downstream.status.state == "connected", watched.downstream.status
        (record,) = watched.records
        assert {tool["name"] for tool in record.tools} == {"get_current_time", "convert_time"}
        assert "UTC" in text_of(await watched.call("get_current_time", timezone="UTC"))


async def test_the_git_server_is_listed_and_answers(repository: Path) -> None:
    async with running(installed("git", "--repository", str(repository))) as watched:
        assert watched.downstream.status.state == "connected", watched.downstream.status
        (record,) = watched.records
        assert {"git_status", "git_commit"} <= {tool["name"] for tool in record.tools}
        assert "No commits yet" in text_of(await watched.call("git_status", repo_path=str(repository)))


async def test_every_schema_of_the_git_server_compiles_and_catches_a_typo(repository: Path) -> None:
    async with running(installed("git", "--repository", str(repository))) as watched:
        (record,) = watched.records
        schemas = {tool["name"]: ToolSchema.compile(tool["inputSchema"], strict=True) for tool in record.tools}
        problems = [str(problem) for problem in schemas["git_status"].problems({"repo_paht": "."})]
        assert '/: unknown property "repo_paht"; did you mean "repo_path"?' in problems
        assert '/: missing required property "repo_path" (string)' in problems
        assert isinstance(await watched.call("git_status", repo_path=str(repository)), Answered)
