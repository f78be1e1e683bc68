"""What a server of the handshake era lists only to clients that it can ask: how it becomes known, and its calls."""

from typing import Any

import anyio
import pytest
from support.selective import Selective

from holdfast_store.model.errors import UnknownTool
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call, VerdictKind
from holdfast_tools.client import ClientProfile
from holdfast_tools.request import RefusedArguments

DEADLINE_S = 20.0
ASKED = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}})
THINKING = ClientProfile(protocol_version="2026-07-28", capabilities={"sampling": {}})
BOTH = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}, "sampling": {}})
SILENT = ClientProfile(protocol_version="2026-07-28")

ALLOWED = [{"id": "all", "effect": "allow"}]
PARKED = [{"id": "asked", "match": {"tool": "some__ask_person"}, "effect": "require_approval"}]
ZOE = {"action": "accept", "content": {"name": "Zoë"}}


@pytest.fixture
def server(workspace) -> Selective:
    return Selective(workspace.folder)


@pytest.fixture
def settings(server) -> dict[str, Any]:
    return {"mcpServers": {"some": server.entry()}, "rules": ALLOWED, "inline_wait": "20s"}


def shown(inside: Any, client: ClientProfile) -> set[str]:
    return {tool.original_name for tool in inside.assembly.catalog.tools() if tool.is_for(client)}


async def until_shown(inside: Any, client: ClientProfile, *names: str) -> None:
    with anyio.fail_after(DEADLINE_S):
        while shown(inside, client) != set(names):
            await anyio.sleep(0.01)


def words_of(call: Call) -> str:
    assert call.outcome is not None, call.state
    return str(call.outcome.payload["content"][0]["text"])


async def test_the_arguments_of_such_a_tool_are_validated(opened, settings):
    async with opened(**settings) as inside:
        with pytest.raises(RefusedArguments, match="some__ask_person"):
            await inside.call("some__ask_person", {"n": "one"}, client=ASKED)


async def test_a_parked_call_of_such_a_tool_outlives_the_engine(opened, settings, server, approver):
    settings["rules"] = PARKED
    async with opened(**settings) as inside:
        parked = (await inside.call("some__ask_person", {}, client=ASKED)).call
        assert parked.state is State.WAITING_FOR_APPROVAL
    async with opened(**settings) as inside:
        assert shown(inside, ASKED) == {"plain", "ask_person"}
        await inside.operations.decide(await inside.approval_of(parked), approver, VerdictKind.APPROVE, "")
        asked = await inside.until(parked.id, State.WAITING_FOR_INPUT)
        (key,) = asked.round.requests
        await inside.assembly.gateway.answer_input(asked.id, LOCAL, {key: ZOE}, number=1)
        assert words_of(await inside.until(parked.id, State.DONE)) == "Hello, Zoë!"
    assert server.noted("greets elicitation") == 2, "once to list it, once for the call"


async def test_a_client_that_declares_more_is_shown_it_at_once_and_listed_for_all_the_same(opened, settings, server):
    async with opened(**settings) as inside:
        await inside.assembly.gateway.settle_catalog(client=ASKED)
        assert shown(inside, BOTH) == {"plain", "ask_person"}
        await inside.assembly.gateway.settle_catalog(client=BOTH)
        assert shown(inside, BOTH) == {"plain", "ask_person", "ask_model"}
        assert shown(inside, THINKING) == {"plain"}
        await inside.assembly.gateway.settle_catalog(client=THINKING)
        assert shown(inside, THINKING) == {"plain", "ask_model"}
        (needed,) = inside.assembly.catalog.get("some__ask_model").needs
        assert needed == {"sampling": {}}


async def test_clients_that_cannot_be_asked_cost_no_session(opened, settings, server):
    async with opened(**settings) as inside:
        await inside.assembly.gateway.settle_catalog(client=SILENT)
        with pytest.raises(UnknownTool, match='no tool "some__ask_person"'):
            await inside.call("some__ask_person", {}, client=SILENT)
    assert server.greeted() == 1


async def test_clients_that_come_at_once_share_one_listing(opened, settings, server):
    async with opened(**settings) as inside, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(lambda: inside.assembly.gateway.settle_catalog(client=ASKED))
    assert server.noted("greets elicitation") == 1


async def test_what_a_session_says_it_has_more_by_now_is_known(opened, settings, server):
    server.lists("plain", elicitation=["grow"])
    async with opened(**settings) as inside:
        await inside.call("some__grow", {}, client=ASKED)
        await until_shown(inside, ASKED, "plain", "grow", "grown")
        assert shown(inside, SILENT) == {"plain"}
        assert words_of((await inside.call("some__grown", {}, client=ASKED)).call) == "grown"


async def test_after_a_change_of_what_everybody_sees_each_kind_is_listed_anew(opened, settings, server):
    server.lists("plain", "tell", elicitation=["ask_person"])
    async with opened(**settings) as inside:
        await inside.assembly.gateway.settle_catalog(client=ASKED)
        server.lists("plain", "tell", "new", elicitation=["ask_other"])
        await inside.call("some__tell", {}, client=SILENT)
        await until_shown(inside, SILENT, "plain", "tell", "new")
        assert "ask_person" in shown(inside, ASKED)
        with anyio.fail_after(DEADLINE_S):
            while "ask_person" in shown(inside, ASKED):
                await inside.assembly.gateway.settle_catalog(client=ASKED)
                await anyio.sleep(0.01)
        assert shown(inside, ASKED) == {"plain", "tell", "new", "ask_other"}


async def test_a_tool_that_becomes_everybodys_needs_nothing_any_more(opened, settings, server):
    server.lists("tell", elicitation=["ask_person"])
    async with opened(**settings) as inside:
        await inside.assembly.gateway.settle_catalog(client=ASKED)
        server.lists("tell", "ask_person")
        await inside.call("some__tell", {}, client=SILENT)
        await until_shown(inside, SILENT, "tell", "ask_person")
        assert inside.assembly.catalog.get("some__ask_person").needs == ()


async def test_a_server_that_turns_such_clients_away_is_not_asked_at_every_turn(opened, settings, server):
    server.lists("plain", elicitation=["ask_person"], refuses=("elicitation",))
    async with opened(**settings) as inside:
        for _ in range(3):
            with pytest.raises(UnknownTool, match='no tool "some__ask_person"'):
                await inside.call("some__ask_person", {}, client=ASKED)
        assert words_of((await inside.call("some__plain", {}, client=SILENT)).call) == "plain"
    assert server.noted("greets elicitation") == 1


async def test_such_a_call_is_resumed_as_the_client_that_made_it(opened, settings, server):
    server.lists("plain", elicitation=["ask_person", "fail"])
    async with opened(**settings) as inside:
        failed = (await inside.call("some__fail", {}, client=ASKED)).call
        assert failed.state is State.FAILED
        again = (await inside.operations.resume(failed, LOCAL, admin=False)).call
        assert "in a session for elicitation" in str(again.outcome.payload)
