"""A result too big for a conversation: its beginning at once, the whole for whoever made the call."""

import json
import sys

import pytest
from mcp.shared.exceptions import MCPError
from support.workspace import SUPPORT

CALL = "dev.holdfast/call"
LIMIT = 16 * 1024


@pytest.fixture
def bounded(started, workspace):
    """A service whose results may take 16 KiB, in front of a server that answers what it is told to."""

    def start(**settings):
        command = {
            "command": sys.executable,
            "args": [str(SUPPORT / "output_server.py"), str(workspace.folder / "log")],
        }
        return started(mcpServers={"out": command}, limits={"max_result_bytes": LIMIT}, **settings)

    return start


def big(size=100_000, **more):
    return {"content": [{"type": "text", "text": "beginning " + "x" * size}], **more}


def uri_of(result):
    (link,) = [block for block in result.content if block.type == "resource_link"]
    return str(link.uri)


async def test_a_big_result_is_its_beginning_and_a_link_to_the_whole(bounded, era):
    async with bounded().client(era) as client:
        result = await client.call_tool("out__plain", {"result": big()})
        assert "beginning xxx" in result.content[1].text
        assert len(result.model_dump_json()) < LIMIT
        assert not result.is_error
        assert result.meta[CALL]["status"] == "done"
        read = await client.read_resource(uri_of(result))
        whole = json.loads(read.contents[0].text)
    assert whole["content"] == big()["content"]


async def test_a_result_within_the_bound_passes_untouched(bounded, era):
    async with bounded().client(era) as client:
        result = await client.call_tool("out__plain", {"result": big(1000)})
    assert [block.text for block in result.content] == [big(1000)["content"][0]["text"]]


async def test_structured_content_stays_where_it_fits_by_itself(bounded, era):
    async with bounded().client(era) as client:
        await client.list_tools()
        result = await client.call_tool("out__act", {"result": big(structuredContent={"n": 1})})
    assert result.structured_content == {"n": 1}
    assert not result.is_error


async def test_where_promised_content_does_not_fit_the_preview_is_no_false_result(bounded, era):
    structured = {"n": 1, "more": "y" * 100_000}
    async with bounded().client(era) as client:
        await client.list_tools()
        result = await client.call_tool("out__act", {"result": big(structuredContent=structured)})
        assert result.is_error
        assert "has finished" in result.content[0].text
        read = await client.read_resource(uri_of(result))
    assert json.loads(read.contents[0].text)["structuredContent"] == structured


async def test_a_tool_may_have_a_bound_of_its_own(bounded, era):
    service = bounded(tools={"out__look": {"max_result_bytes": 1024 * 1024}})
    async with service.client(era) as client:
        result = await client.call_tool("out__look", {"result": big(structuredContent={"n": 1})})
    assert len(result.content) == 1


async def test_the_plain_tools_bound_what_they_bring_too(bounded, era):
    async with bounded().client(era) as client:
        call_id = (await client.call_tool("out__plain", {"result": big()})).meta[CALL]["id"]
        got = await client.call_tool("holdfast__get_task", {"task_id": call_id})
        listed = await client.call_tool("holdfast__list_tasks", {})
    assert uri_of(got).endswith(f"{call_id}/result")
    assert len(got.model_dump_json()) < LIMIT
    assert len(json.dumps(listed.structured_content)) < LIMIT


async def test_the_whole_is_for_its_caller_alone(bounded, era):
    principals = [{"id": name, "token": f"{name}-token-of-some-length"} for name in ("anna", "bert")]
    service = bounded(principals=principals)
    async with service.client(era, token="anna-token-of-some-length") as anna:
        uri = uri_of(await anna.call_tool("out__plain", {"result": big()}))
        assert (await anna.read_resource(uri)).contents
    async with service.client(era, token="bert-token-of-some-length") as bert:
        with pytest.raises(MCPError) as others:
            await bert.read_resource(uri)
        absent = f"holdfast://calls/{'0' * 32}/result"
        with pytest.raises(MCPError) as none:
            await bert.read_resource(absent)
    assert others.value.error.code == none.value.error.code == (-32002 if era == "legacy" else -32602)
    assert others.value.error.message.replace(uri, "") == none.value.error.message.replace(absent, "")


async def test_a_link_is_no_promise_for_a_call_without_a_result(started, era):
    async with started().client(era) as client:
        call_id = (await client.call_tool("ledger__destroy", {"n": 1})).meta[CALL]["id"]
        with pytest.raises(MCPError, match="waiting_for_approval"):
            await client.read_resource(f"holdfast://calls/{call_id}/result")
