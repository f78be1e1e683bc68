"""What a client sees of servers that others wrote, it sees through Holdfast as well: lists, results and errors."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from node_packages import NodePackages
from pydantic import BaseModel
from support.processes import Processes
from system.asking import CALL, fresh_workspace, over_http, over_stdio, record, serve_http, words

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

Json = dict[str, Any]
Reach = Callable[[str], AbstractAsyncContextManager[Client]]
"""A client of one era in front of Holdfast, over the transport at hand."""

INSTALLED = Path(sys.executable).parent
SERVERS = ("git", "time", "filesystem", "memory", "everything")
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
FOLDER = "{folder}"
"""In arguments: the folder that a server was given."""

VALID: dict[str, list[tuple[str, Json]]] = {
    "git": [
        ("git_status", {"repo_path": FOLDER}),
        ("git_add", {"repo_path": FOLDER, "files": ["note.txt"]}),
        ("git_branch", {"repo_path": FOLDER, "branch_type": "local"}),
        ("git_diff_staged", {"repo_path": FOLDER}),
        ("git_show", {"repo_path": FOLDER, "revision": "no-such-revision"}),
        ("git_reset", {"repo_path": FOLDER}),
    ],
    "time": [
        ("convert_time", {"source_timezone": "UTC", "time": "12:30", "target_timezone": "UTC"}),
        ("convert_time", {"source_timezone": "Nowhere/At_All", "time": "12:30", "target_timezone": "UTC"}),
    ],
    "filesystem": [
        ("write_file", {"path": f"{FOLDER}/wrote.txt", "content": "caf\N{LATIN SMALL LETTER E WITH ACUTE}\n"}),
        ("read_text_file", {"path": f"{FOLDER}/wrote.txt"}),
        ("list_directory", {"path": FOLDER}),
        ("directory_tree", {"path": FOLDER}),
        ("read_text_file", {"path": f"{FOLDER}/absent.txt"}),
        ("read_text_file", {"path": "/etc/passwd"}),
    ],
    "memory": [
        ("create_entities", {"entities": [{"name": "ada", "entityType": "person", "observations": ["counts"]}]}),
        ("add_observations", {"observations": [{"entityName": "ada", "contents": ["writes"]}]}),
        ("add_observations", {"observations": [{"entityName": "nobody", "contents": ["writes"]}]}),
        ("read_graph", {}),
        ("search_nodes", {"query": "writes"}),
        ("delete_entities", {"entityNames": ["ada"]}),
    ],
    "everything": [
        ("echo", {"message": "hello"}),
        ("get-sum", {"a": 1, "b": 2.5}),
        ("get-tiny-image", {}),
        ("get-annotated-message", {"messageType": "error", "includeImage": True}),
        ("get-structured-content", {"location": "Chicago"}),
        ("get-resource-links", {"count": 3}),
        ("trigger-long-running-operation", {"duration": 0.2, "steps": 2}),
    ],
}
"""Calls whose results do not depend on when they are made; the last of a server leave it as they found it."""

INVALID: dict[str, tuple[str, Json, str]] = {
    "git": ("git_status", {"repo_pth": "x"}, 'unknown property "repo_pth"; did you mean "repo_path"?'),
    "time": ("convert_time", {"time": "12:30"}, 'missing required property "source_timezone"'),
    "filesystem": ("write_file", {"path": 7, "content": ""}, "/path: "),
    "memory": ("search_nodes", {}, 'missing required property "query"'),
    "everything": ("get-structured-content", {"location": "Atlantis"}, "/location: "),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    author = ("-c", "user.name=ada", "-c", "user.email=ada@example.com")
    for command in (
        ["init", "--quiet", "--initial-branch=trunk"],
        [*author, "commit", "--quiet", "--allow-empty", "-mfirst"],
    ):
        subprocess.run(["git", *command], cwd=place, check=True, timeout=30)
    (place / "note.txt").write_text("not added\n")
    return place


@pytest.fixture(scope="module")
def packages() -> NodePackages:
    return NodePackages.install()


@pytest.fixture(scope="module")
def servers(folder: Path, packages: NodePackages) -> Callable[[Path], dict[str, Json]]:
    """The servers as entries of `mcpServers`; what a server keeps for itself goes below the folder that is named."""

    def entries(kept: Path) -> dict[str, Json]:
        return {
            "git": {"command": str(INSTALLED / "mcp-server-git"), "args": ["--repository", str(folder)]},
            "time": {"command": str(INSTALLED / "mcp-server-time"), "args": ["--local-timezone", "UTC"]},
            "filesystem": packages.filesystem(folder),
            "memory": packages.memory(kept / "memory.jsonl"),
            "everything": packages.everything(),
        }

    return entries


@pytest.fixture(scope="module", params=["stdio", "http"])
def reach(
    request: pytest.FixtureRequest,
    servers: Callable[[Path], dict[str, Json]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Reach]:
    """One engine for all tests of a transport, which lets every valid call through."""
    with ExitStack() as stack:
        place = stack.enter_context(fresh_workspace())
        downstreams = servers(tmp_path_factory.mktemp("kept"))
        place.write_config({"mcpServers": downstreams, "rules": [{"id": "all", "effect": "allow"}]})
        if request.param == "http":
            processes = Processes(tmp_path_factory.mktemp("http"))
            stack.callback(processes.end_all)
            _, url = serve_http(processes, place)
            yield lambda era: over_http(url, era)
        else:
            yield lambda era: over_stdio(place, era)


@pytest.fixture(params=("auto", "legacy"))
def era(request: pytest.FixtureRequest) -> str:
    """The client's mode: 2026-07-28 where the server has it, or the handshake of 2025-11-25."""
    return str(request.param)


def shown(value: BaseModel) -> Json:
    """`value` as it stands on the wire, without what every answer of Holdfast or of an era carries besides."""
    wire = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    carried = {name: kept for name, kept in wire.pop("_meta", {}).items() if name not in (CALL, SERVER_INFO)}
    return {**wire, **({"_meta": carried} if carried else {})}


async def tools_of(client: Client, prefix: str) -> dict[str, Json]:
    """The tools whose name begins with `prefix`, by the rest of it; but for how they run as tasks."""
    found = {}
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if tool.name.startswith(prefix):
                found[tool.name.removeprefix(prefix)] = shown(tool) | {"name": "", "execution": None}
        cursor = page.next_cursor
        if cursor is None:
            return found


async def results_of(client: Client, prefix: str, calls: list[tuple[str, Json]], folder: Path) -> list[Json]:
    results = []
    for tool, arguments in calls:
        filled = {
            name: value.replace(FOLDER, str(folder)) if isinstance(value, str) else value
            for name, value in arguments.items()
        }
        results.append(shown(await client.call_tool(prefix + tool, filled)))
    return results


@pytest.mark.parametrize("server", SERVERS)
async def test_tools_and_results_are_those_that_a_direct_client_gets(reach, era, servers, server, folder, tmp_path):
    alone = StdioServerParameters(**servers(tmp_path)[server])
    async with Client(alone, mode=era, cache=None) as client:
        tools = await tools_of(client, "")
        results = await results_of(client, "", VALID[server], folder)
    prefix = f"{server}__"
    async with reach(era) as client:
        through = await tools_of(client, prefix)
        assert {name: through.get(name) for name in tools} == tools
        assert await results_of(client, prefix, VALID[server], folder) == results


@pytest.mark.parametrize("server", SERVERS)
async def test_an_invalid_call_is_refused_before_the_server_hears_of_it(reach, era, server):
    tool, arguments, problem = INVALID[server]
    async with reach(era) as client:
        refused = await client.call_tool(f"{server}__{tool}", arguments)
    assert refused.is_error
    assert problem in words(refused)
    assert record(refused)["code"] == "invalid_arguments"


LISTINGS = {"resources": "uri", "resource_templates": "uriTemplate", "prompts": "name"}
"""What may be listed besides tools, and what tells its items apart."""


async def offered(client: Client) -> dict[str, dict[str, Json]]:
    """Everything that `client` is offered besides tools, by what tells it apart."""
    found: dict[str, dict[str, Json]] = {}
    for listing, key in LISTINGS.items():
        found[listing] = {}
        cursor, more = None, True
        while more:
            try:
                page = await getattr(client, f"list_{listing}")(cursor=cursor)
            except MCPError as error:
                if error.error.code != METHOD_NOT_FOUND:
                    raise
                break
            items = [shown(item) for item in getattr(page, listing)]
            found[listing] |= {item[key]: item for item in items}
            cursor = page.next_cursor
            more = cursor is not None
    return found


async def test_resources_and_prompts_are_all_those_of_the_servers(reach, era, servers, tmp_path):
    """URIs as they are; prompts under the name of their server."""
    expected: dict[str, dict[str, Json]] = {listing: {} for listing in LISTINGS}
    for server, entry in servers(tmp_path).items():
        async with Client(StdioServerParameters(**entry), mode=era, cache=None) as client:
            alone = await offered(client)
        expected["resources"] |= alone["resources"]
        expected["resource_templates"] |= alone["resource_templates"]
        for name, prompt in alone["prompts"].items():
            expected["prompts"][f"{server}__{name}"] = prompt | {"name": f"{server}__{name}"}
    assert all(expected.values())
    async with reach(era) as client:
        assert await offered(client) == expected
