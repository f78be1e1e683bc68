"""Servers that others wrote, both behind one Holdfast, over each transport and in both eras."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from asking import fresh_workspace, over_http, over_stdio, record, serve_http, words
from mcp import Client, StdioServerParameters
from support.processes import Processes
from support.workspace import Workspace

INSTALLED = Path(sys.executable).parent
HANDLES = {f"holdfast__{verb}_task" for verb in ("get", "wait", "cancel", "resume")} | {"holdfast__list_tasks"}

Reach = Callable[[str], AbstractAsyncContextManager[Client]]
"""A client of one era, over the transport at hand."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=trunk", folder], check=True, timeout=30)
    (folder / "unheard-of.txt").write_text("not added\n")
    return folder


@pytest.fixture(scope="module")
def servers(repository: Path) -> dict[str, dict[str, Any]]:
    return {
        "git": {"command": str(INSTALLED / "mcp-server-git"), "args": ["--repository", str(repository)]},
        "time": {"command": str(INSTALLED / "mcp-server-time"), "args": ["--local-timezone", "UTC"]},
    }


@pytest.fixture(scope="module")
def offered(servers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The input schema of every tool by the name it goes by behind Holdfast, as its own server tells it."""

    async def ask() -> dict[str, dict[str, Any]]:
        schemas = {}
        for name, server in servers.items():
            async with Client(StdioServerParameters(**server), cache=None) as client:
                for tool in (await client.list_tools()).tools:
                    schemas[f"{name}__{tool.name}"] = tool.input_schema
        return schemas

    return anyio.run(ask)


@pytest.fixture(scope="module", params=["stdio", "http", "in-process"])
def reach(
    request: pytest.FixtureRequest, servers: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reach]:
    """One engine for all tests of a transport; in-process, where the client has it to itself, one per client."""
    with ExitStack() as stack:
        place: Workspace = stack.enter_context(fresh_workspace())
        place.write_config({"mcpServers": servers})
        if request.param == "http":
            processes = Processes(tmp_path_factory.mktemp("http"))
            stack.callback(processes.end_all)
            _, url = serve_http(processes, place)
            yield lambda era: over_http(url, era)
        else:
            options = ("--in-process",) if request.param == "in-process" else ()
            yield lambda era: over_stdio(place, era, *options)


async def test_every_tool_is_listed_a_valid_call_passes_and_an_invalid_one_is_refused(reach, era, offered, repository):
    async with reach(era) as client:
        listed = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
        assert set(listed) == set(offered) | HANDLES
        assert {name: listed[name] for name in offered} == offered

        status = await client.call_tool("git__git_status", {"repo_path": str(repository)})
        assert "unheard-of.txt" in words(status)
        assert record(status)["status"] == "done"
        now = await client.call_tool("time__get_current_time", {"timezone": "UTC"})
        assert json.loads(words(now))["timezone"] == "UTC"

        typo = await client.call_tool("git__git_status", {"repo_pth": str(repository)})
        assert 'unknown property "repo_pth"; did you mean "repo_path"?' in words(typo)
        wrong = await client.call_tool("git__git_status", {"repo_path": 7})
        assert "- /repo_path: " in words(wrong)
        missing = await client.call_tool("time__get_current_time", {})
        assert 'missing required property "timezone"' in words(missing)
        for refused in (typo, wrong, missing):
            assert refused.is_error
            assert record(refused)["code"] == "invalid_arguments"
            assert record(refused)["id"] is None
