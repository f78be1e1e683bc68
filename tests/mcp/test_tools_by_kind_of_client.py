"""A server of the handshake era lists more to clients that it can ask: who is shown what, and at which cost."""

from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from offering import Heard
from support.selective import Selective

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

RULES = [{"id": "all", "effect": "allow"}]


async def zoe(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Zoë"})


async def model(context: Any, params: Any) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="."), model="m")


@pytest.fixture
def server(workspace) -> Selective:
    return Selective(workspace.folder)


@pytest.fixture
def service(started, server):
    return started(mcpServers={"some": server.entry()}, rules=RULES, inline_wait="20s")


async def names(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools if not tool.name.startswith("holdfast__")}


async def test_a_tool_is_shown_only_to_clients_that_declare_what_it_was_listed_for(service, server, era):
    async with service.client(era) as silent:
        assert await names(silent) == {"some__plain"}
        assert server.greeted() == 1
        async with service.client(era, elicitation_callback=zoe) as asked:
            assert await names(asked) == {"some__plain", "some__ask_person"}
        async with service.client(era, sampling_callback=model) as thinking:
            assert await names(thinking) == {"some__plain", "some__ask_model"}
        assert await names(silent) == {"some__plain"}


async def test_a_client_calls_it_without_ever_having_listed_it(service, era):
    async with service.client(era, elicitation_callback=zoe) as asked:
        result = await asked.call_tool("some__ask_person", {})
    assert result.content[0].text == "Hello, Zoë!"


async def test_its_arguments_are_validated_like_any_others(service, era):
    async with service.client(era, elicitation_callback=zoe) as asked:
        result = await asked.call_tool("some__ask_person", {"n": "one"})
    assert result.is_error
    assert "nothing ran" in result.content[0].text


async def test_a_client_that_declares_less_is_told_what_it_would_have_to_declare(service, era):
    async with service.client(era, elicitation_callback=zoe) as asked:
        await asked.list_tools()
    async with service.client(era, sampling_callback=model) as thinking:
        with pytest.raises(MCPError, match=r'no tool "some__ask_person" for this client.* declare elicitation'):
            await thinking.call_tool("some__ask_person", {})


async def test_however_many_clients_come_each_kind_is_listed_once(service, server, era):
    for _ in range(3):
        async with service.client(era, elicitation_callback=zoe) as asked:
            assert "some__ask_person" in await names(asked)
            assert "some__ask_person" in await names(asked)
    assert server.noted("greets elicitation") == 1
    assert server.greeted() == 2


async def test_clients_hear_of_tools_that_are_learned_later(service, server):
    heard = Heard()
    async with service.client("legacy", elicitation_callback=zoe, message_handler=heard) as asked:
        assert await names(asked) == {"some__plain", "some__ask_person"}
        server.lists("plain", elicitation=["ask_person", "tell"])
        await asked.call_tool("some__ask_person", {})
        told = 0
        while "some__tell" not in await names(asked):
            told += 1
            await heard.wait_for(lambda told=told: len(heard.of(types.ToolListChangedNotification)) >= told)


async def test_the_command_line_shows_what_clients_must_declare(service, workspace):
    async with service.client(elicitation_callback=zoe) as asked:
        await asked.list_tools()
    shown = workspace.run("tools", workspace.config).stdout
    assert "some__ask_person: only for clients that declare elicitation" in shown
