"""What servers write reaches clients as it was written: compared with what a client gets without Holdfast between."""

import json
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from offering import Offering
from task_clients import Refused, modern_posts

from holdfast_tools import sdk

WITHIN_S = 20.0
REQUESTS = {
    "tools/list": ({}, "tools"),
    "prompts/list": ({}, "prompts"),
    "resources/list": ({}, "resources"),
    "resources/templates/list": ({}, "resourceTemplates"),
}
SINGLE = {
    "prompts/get": {"name": "told", "arguments": {"who": "Zoë"}},
    "resources/read": {"uri": "kept://one"},
    "tools/call": {"name": "described", "arguments": {"alpha": "a"}},
}
OURS = ("dev.holdfast/call", "io.modelcontextprotocol/serverInfo")


@pytest.fixture
def verbatim(downstream):
    return downstream("verbatim", "verbatim.py")


@pytest.fixture
def service(started, verbatim):
    return started(mcpServers={"verbatim": verbatim.entry()}, naming={"prefix": False})


@asynccontextmanager
async def direct(server: Offering, era: str):
    """A client of the server itself."""
    if server.url is not None:
        async with (
            httpx2.AsyncClient(timeout=WITHIN_S) as http,
            Client(streamable_http_client(server.url, http_client=http), mode=era, cache=None) as client,
        ):
            yield client
        return
    command, *arguments = server.command
    async with Client(stdio_client(StdioServerParameters(command=command, args=arguments)), mode=era) as client:
        yield client


async def asked(client, method, params):
    """The result on the wire, without what each server stamps for itself."""
    result = await sdk.request(client.session, method, params, timeout_s=WITHIN_S)
    meta = {name: value for name, value in result.pop("_meta", {}).items() if name not in OURS}
    return result | ({"_meta": meta} if meta else {})


def text_of(value) -> str:
    """The same text means the same bytes, the order of members included."""
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("method", REQUESTS)
async def test_descriptions_pass_byte_for_byte(service, verbatim, era, method):
    """What the server writes in its own era, that is: the SDK writes members in another order in each."""
    params, listed = REQUESTS[method]
    async with service.client(era) as through, direct(verbatim, "auto") as plain:
        seen, written = await asked(through, method, params), await asked(plain, method, params)
    shown = [item for item in seen[listed] if not item["name"].startswith("holdfast__")]
    if method == "tools/list":
        shown = [{name: value for name, value in item.items() if name != "execution"} for item in shown]
    expected = written[listed]
    assert [text_of(item) for item in shown] == [text_of(item) for item in expected]


@pytest.mark.parametrize("method", SINGLE)
async def test_answers_pass_unchanged(service, verbatim, era, method):
    async with service.client(era) as through, direct(verbatim, era) as plain:
        seen, written = await asked(through, method, SINGLE[method]), await asked(plain, method, SINGLE[method])
    hints = {} if era == "legacy" or verbatim.is_modern else {"ttlMs": 0, "cacheScope": "private"}
    if era == "auto" and not verbatim.is_modern:  # the answer of an older server, in the newer form
        written |= {"resultType": "complete"} | (hints if method == "resources/read" else {})
    assert seen == written


async def test_arguments_that_a_schema_declares_as_headers_go_with_the_call(service, verbatim, era):
    async with service.client(era) as client:
        await client.list_tools()
        result = await client.call_tool("regions", {"region": "eu-west"})
    mirrored = verbatim.is_modern and verbatim.url is not None
    assert json.loads(result.content[0].text) == ({"mcp-param-region": "eu-west"} if mirrored else {})


async def test_a_call_without_its_headers_is_refused_before_anything_runs(service):
    async with modern_posts(service.url) as client:
        await client.request("tools/list", {})
        with pytest.raises(Refused) as refused:
            await client.call("regions", {"region": "eu-west"})
    assert refused.value.code == -32020


async def test_what_an_older_client_cannot_read_is_told_in_words(started, workspace, era):
    server = Offering(workspace.folder, "verbatim", "--rows", server="verbatim.py")
    service = started(mcpServers={"verbatim": server.entry()})
    async with service.client(era) as client:
        listed = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        rows = await client.call_tool("verbatim__rows", {})
        bare = await client.call_tool("verbatim__bare", {})
    assert listed["verbatim__described"] is not None
    if era == "legacy":
        assert listed["verbatim__rows"] is None
        assert (rows.structured_content, bare.structured_content) == (None, None)
        assert (rows.content[0].text, bare.content[0].text) == ("one and two", "[1,2]")
    else:
        assert listed["verbatim__rows"] == {"type": "array", "items": {"type": "integer"}}
        assert (rows.structured_content, bare.structured_content) == ([1, 2], [1, 2])
        assert (rows.content[0].text, bare.content) == ("one and two", [])


async def test_a_handle_is_no_error_where_the_client_was_promised_nothing(started, workspace, era):
    server = Offering(workspace.folder, "verbatim", "--rows", server="verbatim.py")
    rules = [{"id": "ask", "match": {"tool": "verbatim__rows"}, "effect": "require_approval"}]
    service = started(mcpServers={"verbatim": server.entry()}, rules=rules)
    async with service.client(era) as client:
        parked = await client.call_tool("verbatim__rows", {})
    assert parked.is_error == (era == "auto")
    assert parked.content[0].text.startswith("Waiting for approval")
