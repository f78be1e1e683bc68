"""Resources, prompts, completion and capabilities through Holdfast, in both eras on both sides."""

import json

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from offering import Offering, text_of

KEY = "dev.holdfast/idempotencyKey"


@pytest.fixture
def connect(started, offering, era):
    """A client of one era in front of one downstream of either."""

    def begin(**options):
        return started(mcpServers={"offering": offering.entry()}).client(era, **options)

    return begin


async def test_what_the_downstream_offers_is_declared(connect):
    async with connect() as client:
        offered = client.server_capabilities.model_dump(by_alias=True, exclude_none=True)
    assert offered["prompts"] == {"listChanged": True}
    assert offered["resources"] == {"subscribe": True, "listChanged": True}
    assert offered["tools"]["listChanged"] is True
    assert "completions" in offered
    assert "logging" in offered


async def test_a_downstream_with_tools_alone_adds_nothing_to_the_results_of_calls(started, era):
    async with started().client(era) as client:
        offered = client.server_capabilities
        assert offered.prompts is None
        assert offered.resources.model_dump(exclude_none=True) == {}
        assert (await client.list_resources()).resources == []
        assert (await client.list_resource_templates()).resource_templates == []
        with pytest.raises(MCPError) as refused:
            await client.list_prompts()
    assert refused.value.code == types.METHOD_NOT_FOUND


async def test_resources_are_listed_page_by_page_under_their_own_uris(connect):
    async with connect() as client:
        first = await client.list_resources()
        second = await client.list_resources(cursor=first.next_cursor)
    assert [str(item.uri) for item in first.resources] == ["shared://notes", "offering://one"]
    assert [str(item.uri) for item in second.resources] == ["offering://two"]
    assert second.next_cursor is None
    assert first.resources[0].meta == {"owner": "offering"}


async def test_a_resource_is_read_by_listed_template_and_unlisted_uri(connect):
    async with connect() as client:
        assert await text_of(client, "offering://two") == "offering://two of offering"
        assert await text_of(client, "offering://by/7") == "offering://by/7 of offering"
        assert await text_of(client, "offering-unlisted://x") == "offering-unlisted://x of offering"
        (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "offering://by/{id}"


async def test_an_error_of_the_downstream_passes_unchanged(connect):
    async with connect() as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource("nobody://knows")
        assert refused.value.code == types.INVALID_PARAMS
        assert refused.value.message == "Resource not found"
        assert refused.value.error.data == {"uri": "nobody://knows"}
        with pytest.raises(MCPError) as refused:
            await client.get_prompt("offering__nothing")
        assert refused.value.error.data == {"prompt": "nothing"}


async def test_prompts_carry_their_servers_name_as_tools_do(connect):
    async with connect() as client:
        prompts = (await client.list_prompts()).prompts
        assert [(item.name, item.title) for item in prompts] == [
            ("offering__greet", "greet of offering"),
            ("offering__only_offering", "only_offering of offering"),
        ]
        (message,) = (await client.get_prompt("offering__greet")).messages
    assert message.content.text == "greet of offering"


async def test_completion_goes_to_whose_prompt_or_template_it_is(connect):
    async with connect() as client:
        prompt = types.PromptReference(type="ref/prompt", name="offering__greet")
        completed = await client.complete(prompt, {"name": "who", "value": "wo"})
        assert completed.completion.values == ["greet wo of offering"]
        template = types.ResourceTemplateReference(type="ref/resource", uri="offering://by/{id}")
        completed = await client.complete(template, {"name": "id", "value": "4"})
    assert completed.completion.values == ["offering://by/{id} 4 of offering"]


async def test_the_downstreams_cache_hints_reach_clients_that_know_of_them(connect, era, offering):
    async with connect() as client:
        resources, tools = await client.list_resources(), await client.list_tools()
    from_modern = era == "auto" and offering.is_modern
    sent = {"ttl_ms", "cache_scope"} & resources.model_fields_set
    assert bool(sent) == (era == "auto")
    if era == "auto":
        assert (resources.ttl_ms, resources.cache_scope) == (5000 if from_modern else 0, "private")
        assert (tools.ttl_ms, tools.cache_scope) == ((60_000, "public") if from_modern else (0, "private"))


async def test_a_2026_downstream_is_told_of_the_caller_and_not_of_holdfast(started, workspace, era):
    async def sampling(context, params):
        raise NotImplementedError

    downstream = Offering(workspace.folder, "offering")
    service = started(mcpServers={"offering": downstream.entry()})
    info = types.Implementation(name="a-client", version="3")
    async with service.client(era, client_info=info, sampling_callback=sampling) as client:
        result = await client.call_tool("offering__who", {}, meta={"vendor/note": [1], KEY: "k-1", "traceparent": "x"})
    seen = json.loads(result.content[0].text)
    assert seen["client"] == "a-client"
    assert seen["capabilities"] == {"sampling": {}}
    assert seen["meta"]["vendor/note"] == [1]
    assert not any(name.startswith("dev.holdfast/") for name in seen["meta"])


async def test_a_2025_downstream_gets_the_callers_meta_and_nothing_of_the_other_era(started, workspace, era):
    downstream = Offering(workspace.folder, "offering", "--legacy")
    async with started(mcpServers={"offering": downstream.entry()}).client(era) as client:
        result = await client.call_tool("offering__who", {}, meta={"vendor/note": [1]})
    seen = json.loads(result.content[0].text)
    assert seen["meta"]["vendor/note"] == [1]
    assert not any("io.modelcontextprotocol" in name for name in seen["meta"])


async def test_a_read_that_its_client_cancels_is_cancelled_downstream(connect, offering):
    async with connect() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.read_resource, "offering://by/wait")
            await offering.notes("waiting")
            tasks.cancel_scope.cancel()
        await offering.notes("cancelled")


async def test_two_downstreams_are_listed_together_and_what_they_share_is_told_apart(started, workspace, era):
    one, other = Offering(workspace.folder, "one"), Offering(workspace.folder, "other", "--legacy")
    service = started(mcpServers={"one": one.entry(), "other": other.entry()}, naming={"prefix": False})
    async with service.client(era) as client:
        uris, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            uris += [str(item.uri) for item in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(uris) == [
            "one+shared://notes",
            *("one://one", "one://two", "other+shared://notes", "other://one", "other://two"),
        ]
        assert await text_of(client, "other+shared://notes") == "shared://notes of other"
        assert await text_of(client, "other://by/5") == "other://by/5 of other"
        assert await text_of(client, "other-unlisted://x") == "other-unlisted://x of other"
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert sorted(names) == ["one__greet", "only_one", "only_other", "other__greet"]
        assert (await client.get_prompt("only_other")).messages[0].content.text == "only_other of other"
        assert (await client.get_prompt("other__greet")).messages[0].content.text == "greet of other"
        with pytest.raises(MCPError, match="cursor"):
            await client.list_resources(cursor="made up")


async def test_a_downstream_that_is_gone_leaves_the_others_lists(started, workspace, era):
    one = Offering(workspace.folder, "one")
    gone = {"command": "/nonexistent/server"}
    async with started(mcpServers={"one": one.entry(), "gone": gone}).client(era) as client:
        assert len((await client.list_prompts()).prompts) == 2


async def test_a_missing_capability_stays_an_error_of_the_protocol(started, workspace):
    downstream = Offering(workspace.folder, "offering")
    async with started(mcpServers={"offering": downstream.entry()}).client("auto") as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("offering__demand", {})
    assert refused.value.code == types.MISSING_REQUIRED_CLIENT_CAPABILITY
    assert refused.value.error.data == {"requiredCapabilities": {"sampling": {}}}


async def test_a_second_start_declares_at_once_what_the_last_one_learnt(started, offering, era):
    service = started(mcpServers={"offering": offering.entry()})
    async with service.client(era) as client:
        await client.list_prompts()
    service.running.end()
    offering.refuse_to_start()
    service = started(mcpServers={"offering": offering.entry()})
    async with service.client(era) as client:
        assert client.server_capabilities.prompts is not None
        assert client.server_capabilities.resources is not None
