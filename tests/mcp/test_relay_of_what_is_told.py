"""What downstreams tell: progress and log messages on the way, changes at any time. Once to each client."""

from contextlib import AsyncExitStack

import anyio
import mcp_types as types
import pytest
from mcp.client.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from offering import QUIET_S, Heard, Offering

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
"""Subscriptions and log levels of sessions are what the older era has."""

LEVEL = "io.modelcontextprotocol/logLevel"
STEPS = [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
NEWS = {
    "tools": (ToolsListChanged, types.ToolListChangedNotification),
    "prompts": (PromptsListChanged, types.PromptListChangedNotification),
    "resources": (ResourcesListChanged, types.ResourceListChangedNotification),
}
EVERYTHING = {"tools_list_changed": True, "prompts_list_changed": True, "resources_list_changed": True}
TOOLS = ("look", "work")
"""One that runs at once because it only reads, and one that is admitted first."""


@pytest.fixture
def service(started, offering):
    return started(mcpServers={"offering": offering.entry()})


@pytest.fixture
def over_http(started, workspace, processes):
    """The same behind an HTTP downstream."""
    server = Offering(workspace.folder, "offering")
    server.serve(processes)
    return started(mcpServers={"offering": server.entry()})


def levels(heard: Heard) -> list[str]:
    return [message.params.level for message in heard.of(types.LoggingMessageNotification)]


@pytest.mark.parametrize("tool", TOOLS)
async def test_progress_reaches_the_caller_in_order_and_before_the_result(service, era, tool):
    steps = []

    async def progress(done, total, message):
        steps.append((done, total, message))

    async with service.client(era) as client:
        await client.call_tool(f"offering__{tool}", {}, progress_callback=progress)
        assert steps == STEPS


@pytest.mark.parametrize("tool", TOOLS)
async def test_log_messages_reach_the_session_that_set_a_level(service, tool):
    heard = Heard()
    async with service.client("legacy", message_handler=heard) as client:
        await client.set_logging_level("info")
        await client.call_tool(f"offering__{tool}", {})
        await heard.wait_for(lambda: len(levels(heard)) >= 2)
    assert levels(heard) == ["info", "error"]


@pytest.mark.parametrize("tool", TOOLS)
async def test_the_level_of_a_client_that_can_be_asked_reaches_the_session_of_its_own(started, workspace, tool):
    async def decline(context, params):
        return types.ElicitResult(action="decline")

    server = Offering(workspace.folder, "offering", "--legacy")
    service = started(mcpServers={"offering": server.entry()})
    heard = Heard()
    async with service.client("legacy", message_handler=heard, elicitation_callback=decline) as client:
        for level, calls in (("info", 2), ("debug", 1)):
            await client.set_logging_level(level)
            for _ in range(calls):
                await client.call_tool(f"offering__{tool}", {})
        await heard.wait_for(lambda: len(levels(heard)) >= 7)
    assert levels(heard) == ["info", "error", "info", "error", "debug", "info", "error"]
    told = [line for line in server.noted() if line.startswith("level ")]
    assert told == ["level info", "level info", "level debug", "level debug"]


@pytest.mark.parametrize("tool", TOOLS)
async def test_log_messages_reach_the_request_that_asks_for_them_and_no_other(service, tool):
    heard = Heard()
    async with service.client("auto", message_handler=heard) as client:
        await client.call_tool(f"offering__{tool}", {}, meta={LEVEL: "error"})
        await client.call_tool(f"offering__{tool}", {})
        await heard.wait_for(lambda: bool(levels(heard)))
        await anyio.sleep(QUIET_S)
    assert levels(heard) == ["error"]


async def test_log_messages_of_calls_at_the_same_time_are_told_apart_over_http(over_http):
    quiet, loud = Heard(), Heard()
    async with (
        over_http.client("auto", message_handler=quiet) as one,
        over_http.client("auto", message_handler=loud) as other,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(10):
            tasks.start_soon(lambda: one.call_tool("offering__look", {}, meta={LEVEL: "error"}))
            tasks.start_soon(lambda: other.call_tool("offering__look", {}, meta={LEVEL: "debug"}))
    assert levels(quiet) == ["error"] * 10
    assert sorted(levels(loud)) == ["debug"] * 10 + ["error"] * 10 + ["info"] * 10


@pytest.mark.parametrize("what", NEWS)
async def test_a_change_that_is_told_five_times_is_heard_once(service, era, what):
    event, notification = NEWS[what]
    heard = Heard()
    async with service.client(era, message_handler=heard) as client:
        await client.list_prompts()
        if era == "legacy":
            await client.call_tool("offering__change", {"what": what})
            await heard.wait_for(lambda: bool(heard.of(notification)))
        else:
            async with client.listen(**EVERYTHING) as subscription:
                await client.call_tool("offering__change", {"what": what})
                with anyio.fail_after(20):
                    assert isinstance(await anext(aiter(subscription)), event)
                await anyio.sleep(QUIET_S)
        await anyio.sleep(QUIET_S)
    assert len(heard.of(notification)) == 1


@pytest.mark.parametrize("changed", [True, False], ids=("changed", "the same"))
async def test_a_server_that_comes_back_is_heard_of_once_where_it_is_another(started, workspace, era, changed):
    server = Offering(workspace.folder, "offering", *(["--counting"] if changed else []))
    service = started(mcpServers={"offering": server.entry()}, rules=[{"id": "all", "effect": "allow"}])
    heard = Heard()
    async with service.client(era, message_handler=heard) as client, AsyncExitStack() as stack:
        await client.list_prompts()
        if era == "auto":
            await stack.enter_async_context(client.listen(**EVERYTHING))
        await client.call_tool("offering__die", {})
        back = await client.call_tool("offering__who", {})
        assert not back.is_error
        if changed:
            await heard.wait_for(lambda: all(heard.of(told) for _, told in (NEWS["tools"], NEWS["prompts"])))
        await anyio.sleep(QUIET_S)
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert {what: len(heard.of(told)) for what, (_, told) in NEWS.items()} == {
        "tools": int(changed),
        "prompts": int(changed),
        "resources": 0,
    }
    assert ("offering__start_2" in names, "offering__start_1" in names) == (changed, False)


async def test_only_what_was_asked_for_is_told_on_a_stream(service):
    heard = Heard()
    async with service.client("auto", message_handler=heard) as client, client.listen(prompts_list_changed=True):
        await client.call_tool("offering__change", {"what": "resources"})
        await client.call_tool("offering__change", {"what": "prompts"})
        await heard.wait_for(lambda: bool(heard.of(types.PromptListChangedNotification)))
        await anyio.sleep(QUIET_S)
    assert not heard.of(types.ResourceListChangedNotification)


async def test_a_subscribed_resource_tells_of_its_change_until_it_is_let_go(service, offering, era):
    uri, heard = "offering://one", Heard()
    async with service.client(era, message_handler=heard) as client:
        if era == "legacy":
            await client.subscribe_resource(uri)
            await offering.notes(f"subscribe {uri}")
            await client.call_tool("offering__touch", {"uri": uri})
            await heard.wait_for(lambda: bool(heard.of(types.ResourceUpdatedNotification)))
            await client.unsubscribe_resource(uri)
        else:
            async with client.listen(resource_subscriptions=[uri]) as subscription:
                await offering.notes(f"subscribe {uri}")
                assert subscription.honored.resource_subscriptions == [uri]
                await client.call_tool("offering__touch", {"uri": uri})
                with anyio.fail_after(20):
                    assert await anext(aiter(subscription)) == ResourceUpdated(uri=uri)
        await offering.notes(f"unsubscribe {uri}")


async def test_two_subscribers_share_one_subscription_downstream(service, offering):
    uri, heard, again = "offering://one", Heard(), Heard()
    async with (
        service.client("legacy", message_handler=heard) as one,
        service.client("legacy", message_handler=again) as other,
    ):
        await one.subscribe_resource(uri)
        await other.subscribe_resource(uri)
        await one.call_tool("offering__touch", {"uri": uri})
        for ears in (heard, again):
            await ears.wait_for(lambda ears=ears: bool(ears.of(types.ResourceUpdatedNotification)))
        await one.unsubscribe_resource(uri)
        await other.unsubscribe_resource(uri)
        await offering.notes(f"unsubscribe {uri}")
    assert offering.noted().count(f"subscribe {uri}") == 1
