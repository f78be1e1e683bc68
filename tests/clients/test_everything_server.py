"""Everything that the reference server of 2025-11-25 can do, through Holdfast, for clients of both eras."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
import pytest
from callers import DEADLINE_S, words_of
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from node_packages import NodePackages
from system.asking import POLL_S

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

DOCUMENT = "demo://resource/static/document/architecture.md"
DYNAMIC = "demo://resource/dynamic/text/7"


class Asked:
    """A client's person and model: what they were asked, and what the client was told besides."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.prompts: list[str] = []
        self.logged: list[Any] = []
        self.steps: list[tuple[float, float | None]] = []

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        self.questions.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Zoe"})

    async def sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.prompts.append(params.messages[0].content.text)
        said = types.TextContent(type="text", text="as the model says")
        return types.CreateMessageResult(role="assistant", content=said, model="none")

    async def log(self, params: Any) -> None:
        self.logged.append(params.data)

    async def step(self, progress: float, total: float | None, message: str | None) -> None:
        self.steps.append((progress, total))


@pytest.fixture(params=("auto", "legacy"))
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(workspace, where, era):
    """A client of one era in front of the server, over one transport; `asked` answers for its person and its model."""
    downstream = NodePackages.install().everything()
    workspace.write_config({"mcpServers": {"everything": downstream}, "inline_wait": "20s"})
    reached = where()
    server = streamable_http_client(reached) if isinstance(reached, str) else reached

    @asynccontextmanager
    async def connected(asked: Asked | None = None) -> AsyncIterator[Client]:
        options: dict[str, Any] = {}
        if asked is not None:
            options = {
                "elicitation_callback": asked.elicit,
                "sampling_callback": asked.sample,
                "logging_callback": asked.log,
                "log_level": "debug",
            }
        async with Client(server, mode=era, cache=None, read_timeout_seconds=DEADLINE_S, **options) as client:
            yield client

    return connected


async def test_resources_are_read_and_prompts_are_filled_in_and_completed(connect):
    async with connect() as client:
        (document,) = (await client.read_resource(DOCUMENT)).contents
        (made,) = (await client.read_resource(DYNAMIC)).contents
        prompt = await client.get_prompt("everything__args-prompt", {"city": "Ulm", "state": "BW"})
        reference = types.PromptReference(type="ref/prompt", name="everything__completable-prompt")
        completed = await client.complete(reference, {"name": "department", "value": "E"})
        named = await client.complete(
            reference, {"name": "name", "value": ""}, context_arguments={"department": "Engineering"}
        )
    assert "Architecture" in document.text
    assert str(made.uri) == DYNAMIC
    assert "7" in made.text
    assert "Ulm, BW" in prompt.messages[0].content.text
    assert completed.completion.values == ["Engineering"]
    assert named.completion.values


async def test_progress_of_a_call_reaches_the_client_that_waits_for_it(connect):
    asked = Asked()
    async with connect() as client:
        result = await client.call_tool(
            "everything__trigger-long-running-operation", {"duration": 1, "steps": 2}, progress_callback=asked.step
        )
    assert "Long running operation completed" in words_of(result.content)
    assert (2.0, 2.0) in asked.steps


async def test_the_servers_question_to_a_model_is_answered_by_the_clients(connect):
    asked = Asked()
    async with connect(asked) as client:
        result = await client.call_tool("everything__trigger-sampling-request", {"prompt": "what now"})
    assert "as the model says" in words_of(result.content)
    assert ["what now" in prompt for prompt in asked.prompts] == [True]


async def test_the_servers_question_to_a_person_is_answered_by_the_clients(connect):
    asked = Asked()
    async with connect(asked) as client:
        result = await client.call_tool("everything__trigger-elicitation-request", {})
    assert "Name: Zoe" in words_of(result.content)
    assert len(asked.questions) == 1


async def test_a_client_that_cannot_be_asked_is_offered_no_tool_that_asks_and_told_so(connect):
    async with connect() as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError) as refused:
            await client.call_tool("everything__trigger-elicitation-request", {})
    assert {"everything__echo", "everything__get-sum"} < names
    assert "everything__trigger-elicitation-request" not in names
    assert 'There is no tool "everything__trigger-elicitation-request"' in refused.value.error.message


async def test_what_the_server_logs_reaches_the_client(connect, era):
    asked = Asked()
    async with connect(asked) as client:
        if era == "legacy":
            await client.set_logging_level("debug")
        await client.call_tool("everything__toggle-simulated-logging", {})
        with anyio.fail_after(DEADLINE_S):
            while not asked.logged:
                await anyio.sleep(POLL_S)
    assert "message" in asked.logged[0]
