"""A server of the handshake era asks in the midst of a call: what becomes of that for each kind of client."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.processes import Processes

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call, OutcomeKind, Principal
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.rounds import Unanswered

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0
SERVER = TESTS / "pipeline" / "legacy_asking.py"

EVERYTHING = {"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}
MODERN = ClientProfile(protocol_version="2026-07-28", capabilities=EVERYTHING)
LEGACY = ClientProfile(protocol_version="2025-11-25", capabilities=EVERYTHING)

ASK_NAME = "old__test_input_required_result_elicitation"
ASK_THREE = "old__test_input_required_result_multiple_inputs"
NAME = {"action": "accept", "content": {"name": "Zoë"}}
GREETING = {"role": "assistant", "content": {"type": "text", "text": "Hi"}, "model": "m"}
ROOTS = {"roots": [{"uri": "file:///a"}]}


def settings(entry: dict[str, Any]) -> dict[str, Any]:
    """Settings with the older server, and a policy that lets every call through."""
    return {"mcpServers": {"old": entry}, "rules": [{"id": "all", "effect": "allow"}], "inline_wait": "20s"}


@pytest.fixture
def over_stdio() -> dict[str, Any]:
    return settings({"command": sys.executable, "args": [str(SERVER)], "env": {"PYTHONPATH": str(TESTS)}})


@pytest.fixture
def over_http(processes: Processes) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    running = processes.start([sys.executable, str(SERVER), "--http"], environment=environment)
    return settings({"url": running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)})


@pytest.fixture(params=["stdio", "http"])
def asking(request) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(f"over_{request.param}")
    return found


def text_of(call: Call) -> str:
    assert call.outcome is not None, call.state
    return str(call.outcome.payload["content"][0]["text"])


def idle_sessions(downstream: Downstream) -> int:
    """How many leased sessions are open that nobody uses now."""
    return sum(place.session.usable and not place.users for place in downstream._leases._places)


async def answered(inside: Any, call: Call, answer: dict[str, Any], tool: str = ASK_NAME) -> Call:
    """The call after its open round was answered by the client of the stateless era."""
    state = inside.assembly.gateway.request_state(call)
    (key,) = call.round.requests
    reply = await inside.call(tool, {}, client=MODERN, input_responses={key: answer}, request_state=state)
    assert reply.call.id == call.id
    return reply.call


async def test_what_it_asks_becomes_a_round_and_the_answer_goes_to_the_same_attempt(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
        assert (asked.state, asked.round.attached) == (State.WAITING_FOR_INPUT, True)
        (request,) = asked.round.requests.values()
        assert request["method"] == "elicitation/create"
        assert request["params"]["requestedSchema"]["properties"] == {"name": {"type": "string"}}
        done = await answered(inside, asked, NAME)
        assert text_of(done) == "Hello, Zoë!"
        assert await inside.events(asked.id) == ["start", "ask", "continue", "settle"]


async def test_several_questions_come_one_after_the_other(opened, asking):
    async with opened(**asking) as inside:
        call = (await inside.call(ASK_THREE, {}, client=MODERN)).call
        for number, answer in enumerate((NAME, GREETING, ROOTS), 1):
            assert (call.state, call.round.number) == (State.WAITING_FOR_INPUT, number)
            call = await answered(inside, call, answer, ASK_THREE)
        assert text_of(call) == "Hi Zoë, of 1 roots"


async def test_a_client_that_can_be_asked_while_it_waits_is_asked_at_once(opened, asking):
    async def ask(requests):
        answers = {"elicitation/create": NAME, "sampling/createMessage": GREETING, "roots/list": ROOTS}
        return {key: answers[request["method"]] for key, request in requests.items()}

    async with opened(**asking) as inside:
        reply = await inside.call(ASK_THREE, {}, client=LEGACY, ask=ask)
        assert text_of(reply.call) == "Hi Zoë, of 1 roots"
        assert reply.call.fence == 1


async def test_a_refusal_is_told_to_the_server_which_decides_what_comes_of_it(opened, asking):
    async def ask(requests):
        raise Unanswered("the client answered elicitation/create with error -1: no thanks")

    async with opened(**asking) as inside:
        reply = await inside.call(ASK_NAME, {}, client=LEGACY, ask=ask)
        assert reply.call.outcome.kind in (OutcomeKind.RPC_ERROR, OutcomeKind.TOOL_ERROR)
        assert await inside.events(reply.call.id) == ["start", "ask", "continue", "fail"]


async def test_who_comes_again_without_an_answer_is_asked_again(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
        state = inside.assembly.gateway.request_state(asked)
        again = (await inside.call(ASK_NAME, {}, client=MODERN, request_state=state)).call
        assert (again.id, again.state, again.round) == (asked.id, State.WAITING_FOR_INPUT, asked.round)
        assert text_of(await answered(inside, again, NAME)) == "Hello, Zoë!"


async def test_a_question_that_its_server_takes_back_makes_way_for_the_next(opened):
    server = str(TESTS / "pipeline" / "impatient.py")
    entry = {"command": sys.executable, "args": [server], "env": {"PYTHONPATH": str(TESTS)}}
    async with opened(**settings(entry)) as inside:
        first = (await inside.call("old__ask", {}, client=MODERN)).call
        assert first.round.requests["input"]["params"]["message"] == "the first"
        with anyio.fail_after(10):
            second = first
            while second.round.number == 1:
                second = await inside.until(first.id, State.WAITING_FOR_INPUT, State.RUNNING)
                await anyio.sleep(0.01)
        second = await inside.until(first.id, State.WAITING_FOR_INPUT)
        assert second.round.requests["input"]["params"]["message"] == "the second"
        assert text_of(await answered(inside, second, NAME, "old__ask")) == "taken back, then accept"
        assert await inside.events(first.id) == ["start", "ask", "continue", "ask", "continue", "settle"]


async def test_who_declared_nothing_is_never_asked(opened, asking):
    async with opened(**asking) as inside:
        silent = ClientProfile(protocol_version="2026-07-28")
        reply = await inside.call(ASK_NAME, {}, client=silent)
        assert reply.call.outcome.kind is OutcomeKind.RPC_ERROR
        assert "elicitation" in reply.call.outcome.message


async def test_the_server_sees_what_the_caller_declared(opened, asking):
    async with opened(**asking) as inside:
        only_sampling = ClientProfile(protocol_version="2026-07-28", capabilities={"sampling": {}})
        asked = (await inside.call("old__test_input_required_result_capabilities", {}, client=only_sampling)).call
        assert [request["method"] for request in asked.round.requests.values()] == ["sampling/createMessage"]


async def test_two_calls_at_once_are_asked_each_in_a_session_of_its_own(opened, asking):
    async with opened(**asking) as inside:
        first = (await inside.call(ASK_NAME, {}, client=MODERN, client_call_id="a")).call
        second = (await inside.call(ASK_NAME, {}, client=MODERN, client_call_id="b")).call
        assert first.id != second.id
        other = {"action": "accept", "content": {"name": "Ada"}}
        assert text_of(await answered(inside, second, other)) == "Hello, Ada!"
        assert text_of(await answered(inside, first, NAME)) == "Hello, Zoë!"


async def test_a_session_is_used_again_by_its_principal_and_by_nobody_else(opened, asking):
    async with opened(**asking) as inside:
        downstream = inside.assembly.downstreams["old"]
        for principal in (LOCAL, LOCAL, Principal("somebody")):
            call = (await inside.call(ASK_NAME, {}, client=MODERN, principal=principal)).call
            await inside.assembly.gateway.answer_input(call.id, principal, {"input": NAME}, number=1)
            await inside.until(call.id, State.DONE)
        with anyio.fail_after(10):
            while idle_sessions(downstream) < 2:
                await anyio.sleep(0.01)
        assert idle_sessions(downstream) == 2


async def test_a_question_that_dies_with_its_engine_leaves_a_write_in_doubt(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
    async with opened(**asking) as inside:
        stored = await inside.store.get_call(asked.id)
        assert stored.state is State.IN_DOUBT
        assert stored.note == "old asked for input in the midst of it, and the question died with the engine"


async def test_a_question_that_nobody_answers_in_time_is_told_to_the_server(opened, asking):
    async with opened(**asking, limits={"answer_within": "200ms"}) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
        await inside.until(asked.id, State.DONE, State.FAILED)
        assert (await inside.events(asked.id))[:3] == ["start", "ask", "continue"]


async def test_a_question_that_dies_with_its_session_says_so(opened, over_stdio):
    async with opened(**over_stdio) as inside:
        before = _children_of(os.getpid())
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
        (leased,) = [pid for pid in _children_of(os.getpid()) if pid not in before]
        os.kill(leased, signal.SIGKILL)
        doubtful = await inside.until(asked.id, State.IN_DOUBT)
        assert "connection ended" in doubtful.note


async def test_a_cancel_releases_the_server_from_its_question(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=MODERN)).call
        await inside.operations.cancel(asked, LOCAL)
        ended = await inside.until(asked.id, State.FAILED, State.DONE)
        assert ended.cancel_requested
        assert (await inside.events(asked.id))[:4] == ["start", "ask", "cancel_requested", "continue"]


def _children_of(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found
