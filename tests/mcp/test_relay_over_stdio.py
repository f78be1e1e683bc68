"""What passes through besides tools, for clients on stdio: the same in short, in both eras on both sides."""

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import stdio_client
from mcp.client.subscriptions import PromptsListChanged, ResourceUpdated
from offering import Heard, text_of

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

WITHIN_S = 30.0
URI = "offering://one"


@pytest.fixture
def connect(workspace, era):
    """A client on stdio, of one era, in front of a downstream."""

    def begin(server, **options):
        workspace.write_config({"mcpServers": {server.name: server.entry()}})
        return Client(stdio_client(workspace.server()), mode=era, cache=None, **options)

    return begin


async def test_resources_prompts_and_completion_pass(connect, offering):
    with anyio.fail_after(WITHIN_S):
        async with connect(offering) as client:
            first = await client.list_resources()
            second = await client.list_resources(cursor=first.next_cursor)
            uris = [str(item.uri) for page in (first, second) for item in page.resources]
            assert uris == ["shared://notes", URI, "offering://two"]
            assert await text_of(client, "offering://by/7") == "offering://by/7 of offering"
            (message,) = (await client.get_prompt("offering__greet")).messages
            assert message.content.text == "greet of offering"
            prompt = types.PromptReference(type="ref/prompt", name="offering__greet")
            completed = await client.complete(prompt, {"name": "who", "value": "wo"})
    assert completed.completion.values == ["greet wo of offering"]


async def test_progress_and_changes_are_told(connect, offering, era):
    heard, steps = Heard(), []

    async def progress(done, total, message):
        steps.append(message)

    with anyio.fail_after(WITHIN_S):
        async with connect(offering, message_handler=heard) as client:
            await client.call_tool("offering__work", {}, progress_callback=progress)
            if era == "legacy":
                await client.subscribe_resource(URI)
                await client.call_tool("offering__touch", {"uri": URI})
                await heard.wait_for(lambda: bool(heard.of(types.ResourceUpdatedNotification)))
                await client.call_tool("offering__change", {"what": "prompts"})
                await heard.wait_for(lambda: bool(heard.of(types.PromptListChangedNotification)))
            else:
                async with client.listen(prompts_list_changed=True, resource_subscriptions=[URI]) as subscription:
                    news = aiter(subscription)
                    await client.call_tool("offering__touch", {"uri": URI})
                    assert await anext(news) == ResourceUpdated(uri=URI)
                    await client.call_tool("offering__change", {"what": "prompts"})
                    assert isinstance(await anext(news), PromptsListChanged)
    assert steps == ["step 1", "step 2", "step 3"]


async def test_a_prompt_and_a_resource_that_ask_are_given_once_they_were_answered(connect, downstream):
    async def accept(context, params):
        return types.ElicitResult(action="accept", content={"name": "Zoë"})

    with anyio.fail_after(WITHIN_S):
        async with connect(downstream("inquiring", "inquiring.py"), elicitation_callback=accept) as client:
            (message,) = (await client.get_prompt("inquiring__greet")).messages
            assert message.content.text == "Greet Zoë"
            assert await text_of(client, "ask://twice") == "Zoë and Zoë"
