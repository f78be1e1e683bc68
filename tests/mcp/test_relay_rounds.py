"""Prompts and resources whose server asks its client for something first, in both eras on both sides."""

from typing import ClassVar

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from offering import Offering, text_of
from task_clients import Refused, modern_posts

from holdfast_tools import sdk

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
"""Sampling and roots are what the older era has."""

WITHIN_S = 30.0


@pytest.fixture
def inquiring(downstream):
    return downstream("inquiring", "inquiring.py")


@pytest.fixture
def service(started, inquiring):
    return started(mcpServers={"inquiring": inquiring.entry()})


class Person:
    """Whoever answers for a client; notes what was asked."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str] = []

    async def elicit(self, context, params):
        self.asked.append(params.message)
        if isinstance(params, types.ElicitRequestURLParams):
            return types.ElicitResult(action="accept")
        if not self.names:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content={"name": self.names.pop(0)})

    async def sample(self, context, params):
        self.asked.append(params.messages[0].content.text)
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text="Hi"), model="a-model"
        )

    async def roots(self, context):
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])

    @property
    def callbacks(self):
        return {
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "list_roots_callback": self.roots,
        }


async def test_a_prompt_is_given_once_its_client_said_what_was_asked(service, era):
    person = Person("Zoë")
    with anyio.fail_after(WITHIN_S):
        async with service.client(era, **person.callbacks) as client:
            (message,) = (await client.get_prompt("inquiring__greet")).messages
    assert message.content.text == "Greet Zoë"
    assert person.asked == ["Which name (ask)?"]


async def test_a_resource_is_given_once_its_client_said_what_was_asked(service, era):
    person = Person("Zoë", "Zoë", "Ada")
    given = {}
    with anyio.fail_after(WITHIN_S):
        async with service.client(era, **person.callbacks) as client:
            for resource in ("name", "twice", "model", "roots", "visit", "later"):
                given[resource] = await text_of(client, f"ask://{resource}")
    assert given == {
        "name": "Zoë",
        "twice": "Zoë and Ada",
        "model": "Hi",
        "roots": "file:///work",
        "visit": "accept",
        "later": "now",
    }


async def test_what_the_user_declines_is_told_to_the_server(service, era):
    with anyio.fail_after(WITHIN_S):
        async with service.client(era, **Person().callbacks) as client:
            assert await text_of(client, "ask://name") == "nobody (decline)"


async def test_a_server_that_is_still_starting_asks_the_client_that_came_first(started, era, workspace):
    go = workspace.folder / "go"
    slow = Offering(workspace.folder, "inquiring", "--legacy", server="inquiring.py")
    wait = ["-c", f'while ! test -e {go}; do sleep 0.02; done; exec "$0" "$@"', *slow.command]
    entry = {"command": "sh", "args": wait}
    go.touch()
    known = started(mcpServers={"inquiring": entry})
    async with known.client() as client:
        assert (await client.list_resources()).resources
    known.running.end()
    go.unlink()
    service = started(mcpServers={"inquiring": entry})
    given = []
    with anyio.fail_after(WITHIN_S):
        async with service.client(era, **Person("Zoë").callbacks) as client, anyio.create_task_group() as tasks:

            async def read() -> None:
                given.append(await text_of(client, "ask://name"))

            tasks.start_soon(read)
            await client.list_tools()
            go.touch()
    assert given == ["Zoë"]


async def test_a_client_that_declared_nothing_is_not_asked(service, era, inquiring):
    with anyio.fail_after(WITHIN_S):
        async with service.client(era) as client:
            with pytest.raises((MCPError, RuntimeError)):
                await client.read_resource("ask://name")


async def test_progress_is_heard_on_the_way_to_a_resource_that_asks(service, era):
    steps = []

    async def progress(done, total, message):
        steps.append((done, total, message))

    with anyio.fail_after(WITHIN_S):
        async with service.client(era, **Person("Zoë").callbacks) as client:
            await sdk.request(
                client.session, "resources/read", {"uri": "ask://later"}, timeout_s=WITHIN_S, on_progress=progress
            )
    assert steps[0] == (1, 2, "looking")


async def test_two_clients_at_once_are_asked_each_for_its_own_request(service, era):
    one, other = Person("Zoë"), Person("Ada")
    given = {}

    async def read(name, person):
        async with service.client(era, **person.callbacks) as client:
            given[name] = await text_of(client, "ask://name")

    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "one", one)
            tasks.start_soon(read, "other", other)
    assert given == {"one": "Zoë", "other": "Ada"}


class TestRawRounds:
    """What a client of 2026-07-28 sees of a round on the wire."""

    ANSWER: ClassVar = {"action": "accept", "content": {"name": "Zoë"}}

    async def asked(self, client, uri="ask://name"):
        result = await client.request("resources/read", {"uri": uri}, name=uri)
        assert result["resultType"] == "input_required"
        return result

    async def read(self, client, asked, uri="ask://name", **changes):
        responses = dict.fromkeys(asked["inputRequests"], self.ANSWER)
        params = {"uri": uri, "inputResponses": responses, "requestState": asked["requestState"], **changes}
        return await client.request("resources/read", params, name=uri)

    async def test_a_round_is_asked_and_answered(self, service):
        async with modern_posts(service.url, elicitation=True) as client:
            asked = await self.asked(client)
            (request,) = asked["inputRequests"].values()
            assert request["method"] == "elicitation/create"
            assert request["params"]["requestedSchema"]["properties"] == {"name": {"type": "string"}}
            done = await self.read(client, asked)
        assert done["contents"][0]["text"] == "Zoë"
        assert done["resultType"] == "complete"

    async def test_the_state_of_a_held_request_is_for_its_own_request_principal_and_once(self, started, workspace):
        inquiring = Offering(workspace.folder, "inquiring", "--legacy", server="inquiring.py")
        people = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
        service = started(mcpServers={"inquiring": inquiring.entry()}, principals=people)
        async with (
            modern_posts(service.url, "token-of-ada", elicitation=True) as ada,
            modern_posts(service.url, "token-of-bob", elicitation=True) as bob,
        ):
            asked = await self.asked(ada)
            for client, changes in (
                (bob, {}),
                (ada, {"uri": "ask://twice"}),
                (ada, {"requestState": asked["requestState"] + "x"}),
            ):
                with pytest.raises(Refused) as refused:
                    await self.read(client, asked, **{"uri": "ask://name", **changes})
                assert (refused.value.code, refused.value.data) == (-32602, {"reason": "invalid_request_state"})
            assert (await self.read(ada, asked))["contents"][0]["text"] == "Zoë"
            with pytest.raises(Refused):
                await self.read(ada, asked)

    async def test_a_request_that_brings_no_answer_is_asked_again(self, service):
        async with modern_posts(service.url, elicitation=True) as client:
            asked = await self.asked(client)
            again = await self.read(client, asked, inputResponses={})
            assert again["inputRequests"] == asked["inputRequests"]
            assert (await self.read(client, again))["contents"][0]["text"] == "Zoë"
