"""What a downstream asks in the midst of a call: kept, answered once, by whoever made the call, across restarts."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.processes import Processes

from holdfast_server.mcp.render import render
from holdfast_store.contract import Answer
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call, OutcomeKind, Principal
from holdfast_tools.client import ClientProfile
from holdfast_tools.request import Reply
from holdfast_tools.rounds import InvalidRequestState, Unanswered, undeclared

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0

ABLE = ClientProfile(
    protocol_version="2026-07-28", capabilities={"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}
)
WITH_TASKS = ClientProfile(
    protocol_version="2026-07-28",
    capabilities={**ABLE.capabilities, "extensions": {"io.modelcontextprotocol/tasks": {}}},
)
LEGACY = ClientProfile(protocol_version="2025-11-25", capabilities={"elicitation": {}})

ASK_NAME = "fixture__test_input_required_result_elicitation"
ASK_TWICE = "fixture__test_input_required_result_multi_round"
NAME = {"user_name": {"action": "accept", "content": {"name": "Zoë"}}}


@pytest.fixture
def asking(processes: Processes) -> dict[str, Any]:
    """Settings with the downstream that asks, and a policy that lets every call through."""
    command = [sys.executable, "-m", "conformance.fixture"]
    running = processes.start(command, environment={**os.environ, "PYTHONPATH": str(TESTS)})
    url = running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)
    return {
        "mcpServers": {"fixture": {"url": url}},
        "rules": [{"id": "all", "effect": "allow"}],
        "inline_wait": "20s",
    }


def text_of(call: Call) -> str:
    assert call.outcome is not None, call.state
    return str(call.outcome.payload["content"][0]["text"])


async def test_a_call_that_asks_waits_for_input_and_goes_on_with_the_answers(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        assert asked.state is State.WAITING_FOR_INPUT
        assert asked.round.requests["user_name"]["params"]["message"] == "What is your name?"
        state = inside.assembly.gateway.request_state(asked)
        reply = await inside.call(ASK_NAME, {}, client=ABLE, input_responses=NAME, request_state=state)
        assert (reply.call.id, text_of(reply.call)) == (asked.id, "Hello, Zoë!")
        assert await inside.events(asked.id) == ["start", "ask", "answer", "claim", "settle"]


async def test_a_call_that_waits_for_input_holds_its_line(opened, asking):
    async with opened(**asking, tools={"fixture__*": {"order": "on"}}) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        behind = (await inside.call(ASK_NAME, {}, client=ABLE, at_once=True, client_call_id="another")).call
        assert (asked.state, behind.state) == (State.WAITING_FOR_INPUT, State.QUEUED)
        await inside.assembly.gateway.answer_input(asked.id, LOCAL, NAME, number=1)
        await inside.until(asked.id, State.DONE)
        await inside.until(behind.id, State.WAITING_FOR_INPUT)
        assert await inside.events(behind.id) == ["admit", "next_in_line", "claim", "ask"]


async def test_each_round_has_a_state_of_its_own_that_can_be_used_once(opened, asking):
    async with opened(**asking) as inside:
        gateway = inside.assembly.gateway
        first = (await inside.call(ASK_TWICE, {}, client=ABLE)).call
        one = gateway.request_state(first)
        answer = {"step1": {"action": "accept", "content": {"name": "Zoë"}}}
        second = (await inside.call(ASK_TWICE, {}, client=ABLE, input_responses=answer, request_state=one)).call
        two = gateway.request_state(second)
        assert (second.state, second.round.number) == (State.WAITING_FOR_INPUT, 2)
        assert one != two
        with pytest.raises(InvalidRequestState, match="can be used once"):
            await inside.call(ASK_TWICE, {}, client=ABLE, input_responses=answer, request_state=one)
        answer = {"step2": {"action": "accept", "content": {"color": "blue"}}}
        done = (await inside.call(ASK_TWICE, {}, client=ABLE, input_responses=answer, request_state=two)).call
        assert text_of(done) == "Zoë likes blue."


@pytest.mark.parametrize(
    "changed",
    [
        {"request_state": lambda state: state + "-TAMPERED"},
        {"request_state": lambda state: state.replace(".1.", ".2.")},
        {"request_state": lambda state: "hf1." + "0" * 32 + state[36:]},
        {"principal": lambda _: Principal("somebody")},
        {"principal": lambda _: Principal("local", tenant="other")},
        {"tool": lambda _: "fixture__test_input_required_result_sampling"},
    ],
    ids=["altered", "another round", "another call", "another principal", "another tenant", "another tool"],
)
async def test_a_state_counts_only_for_what_it_was_sealed_for(opened, asking, changed: dict[str, Callable[[str], Any]]):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        state = inside.assembly.gateway.request_state(asked)
        more = {"client": ABLE, "input_responses": NAME, "request_state": state, "tool": ASK_NAME, "principal": LOCAL}
        more |= {name: change(state) for name, change in changed.items()}
        with pytest.raises(InvalidRequestState):
            await inside.call(more.pop("tool"), {}, **more)
        assert (await inside.store.get_call(asked.id)).state is State.WAITING_FOR_INPUT


async def test_a_round_that_was_left_is_never_joined_and_never_replayed(opened, asking):
    async with opened(**asking) as inside:
        first = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        second = await inside.call(ASK_NAME, {}, client=ABLE, input_responses={"wrong": {}})
        third = await inside.call(ASK_NAME, {}, client=ABLE)
        assert len({first.id, second.call.id, third.call.id}) == 3
        assert not second.joined
        assert not third.joined


async def test_answers_given_unasked_go_along_with_the_first_attempt(opened, asking):
    async with opened(**asking) as inside:
        given = {**NAME, "unknown": {"action": "decline"}}
        reply = await inside.call(ASK_NAME, {}, client=ABLE, input_responses=given)
        assert text_of(reply.call) == "Hello, Zoë!"
        assert reply.call.fence == 1


async def test_a_key_finds_the_open_round_again(opened, asking):
    async with opened(**asking) as inside:
        first = await inside.call(ASK_NAME, {}, client=ABLE, key="k")
        again = await inside.call(ASK_NAME, {}, client=ABLE, key="k")
        assert (again.call.id, again.call.round) == (first.call.id, first.call.round)
        state = inside.assembly.gateway.request_state(again.call)
        done = await inside.call(ASK_NAME, {}, client=ABLE, key="k", input_responses=NAME, request_state=state)
        assert text_of(done.call) == "Hello, Zoë!"


async def test_a_round_outlives_the_engine_that_asked(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        state = inside.assembly.gateway.request_state(asked)
    async with opened(**asking) as inside:
        reply = await inside.call(ASK_NAME, {}, client=ABLE, input_responses=NAME, request_state=state)
        assert (reply.call.id, text_of(reply.call)) == (asked.id, "Hello, Zoë!")


async def test_a_round_that_nobody_answers_expires_and_says_so(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        state = inside.assembly.gateway.request_state(asked)
        inside.clock.pass_by(25 * 3600)
        inside.assembly.runner.wake()
        ended = await inside.until(asked.id, State.FAILED)
        assert ended.outcome.kind is OutcomeKind.EXPIRED
        words = render(Reply(ended))["content"][0]["text"]
        assert words.startswith("Expired; it had been sent: fixture asked for input before it went on")
        with pytest.raises(InvalidRequestState):
            await inside.call(ASK_NAME, {}, client=ABLE, input_responses=NAME, request_state=state)


async def test_a_client_that_can_be_asked_while_it_waits_is_asked_at_once(opened, asking):
    seen = []

    async def ask(requests):
        seen.append(requests)
        return {"user": {"action": "accept", "content": {"username": "zoë", "email": "z@example.org"}}}

    async with opened(**asking, tools={"*": {"inline_wait": "5s"}}) as inside:
        reply = await inside.call("fixture__test_elicitation", {"message": "Who?"}, client=LEGACY, ask=ask)
        assert text_of(reply.call).startswith("User response:")
        assert [request["params"]["message"] for (request,) in (each.values() for each in seen)] == ["Who?"]


async def test_what_a_client_answered_outlasts_trouble_with_the_store(opened, asking, monkeypatch):
    async def ask(requests):
        return {"user": {"action": "accept", "content": {"username": "zoë", "email": "z@example.org"}}}

    async with opened(**asking) as inside:
        commit, troubles = inside.store.commit, [StoreError("the disk is full"), StoreError("the disk is full")]

        async def in_trouble(writes):
            if troubles and isinstance(writes[0], Answer):
                raise troubles.pop()
            return await commit(writes)

        monkeypatch.setattr(inside.store, "commit", in_trouble)
        reply = await inside.call("fixture__test_elicitation", {"message": "Who?"}, client=LEGACY, ask=ask)
        assert not troubles
        assert text_of(reply.call).startswith("User response:")


async def test_a_client_that_refuses_ends_the_call_with_its_words(opened, asking):
    async def ask(requests):
        raise Unanswered("the client answered elicitation/create with error -1: no thanks")

    async with opened(**asking) as inside:
        reply = await inside.call("fixture__test_elicitation", {"message": "Who?"}, client=LEGACY, ask=ask)
        assert reply.call.state is State.FAILED
        assert "no thanks" in reply.call.outcome.message


async def test_a_refusal_after_somebody_else_answered_changes_nothing(opened, asking):
    async with opened(**asking) as inside, anyio.create_task_group() as tasks:
        gateway, asked = inside.assembly.gateway, (await inside.call(ASK_NAME, {}, client=ABLE)).call
        with inside.late_answers(Answer) as late:
            tasks.start_soon(partial(gateway.answer_input, asked.id, LOCAL, NAME, number=1))
            await late.reached.wait()
            seen = await inside.assembly.runner.fail_unanswered(asked, "no thanks")
            assert seen.state is State.QUEUED
            late.let_go()
        assert text_of(await inside.until(asked.id, State.DONE)) == "Hello, Zoë!"


async def test_who_waits_for_a_time_is_not_asked_for_longer(opened, asking):
    gone = []

    async def ask(requests):
        try:
            await anyio.sleep_forever()
        finally:
            gone.append(requests)

    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        with anyio.fail_after(10):
            seen = await inside.assembly.gateway.wait_until_ended(asked.id, 0.1, ask=ask)
        assert (seen.state, gone) == (State.WAITING_FOR_INPUT, [asked.round.requests])


async def test_what_waits_for_input_can_be_cancelled(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        assert (await inside.operations.cancel(asked, LOCAL)).state is State.CANCELLED


async def test_a_read_that_asks_is_recorded_and_goes_on(opened, asking):
    reads = {"fixture__test_input_*": {"annotations": {"readOnlyHint": True}}}
    async with opened(**asking, tools=reads) as inside:
        asked = (await inside.call(ASK_NAME, {}, client=ABLE)).call
        state = inside.assembly.gateway.request_state(asked)
        assert (await inside.store.get_call(asked.id)).state is State.WAITING_FOR_INPUT
        reply = await inside.call(ASK_NAME, {}, client=ABLE, input_responses=NAME, request_state=state)
        assert text_of(reply.call) == "Hello, Zoë!"


@pytest.mark.parametrize(
    ("request_", "capabilities", "lacking"),
    [
        ({"method": "elicitation/create", "params": {}}, {"elicitation": {}}, ()),
        ({"method": "elicitation/create", "params": {"mode": "form"}}, {"elicitation": {"form": {}}}, ()),
        ({"method": "elicitation/create", "params": {}}, {"elicitation": {"url": {}}}, ("elicitation.form",)),
        ({"method": "elicitation/create", "params": {"mode": "url"}}, {"elicitation": {}}, ("elicitation.url",)),
        ({"method": "elicitation/create", "params": {"mode": "url"}}, {"elicitation": {"url": {}}}, ()),
        ({"method": "elicitation/create"}, {}, ("elicitation",)),
        ({"method": "sampling/createMessage", "params": {}}, {"sampling": {}}, ()),
        ({"method": "sampling/createMessage", "params": {"tools": []}}, {"sampling": {}}, ("sampling.tools",)),
        ({"method": "roots/list"}, {}, ("roots",)),
        ({"method": "files/delete"}, {"roots": {}}, ("files/delete",)),
    ],
)
def test_only_what_the_client_declared_may_be_asked(request_, capabilities, lacking):
    assert undeclared({"key": request_}, ClientProfile(capabilities=capabilities)) == lacking


# --- a downstream that makes tasks of its own ---------------------------------------------------------------------


async def test_a_downstreams_own_task_is_watched_to_its_end(opened, asking):
    async with opened(**asking) as inside:
        reply = await inside.call("fixture__slow_compute", {"seconds": 0.3, "label": "sum"}, client=WITH_TASKS)
        assert text_of(reply.call) == "sum: computed for 0.3 s"
        assert await inside.events(reply.call.id) == ["start", "follow", "settle"]


async def test_a_client_that_takes_tasks_is_answered_as_soon_as_there_is_one(opened, asking):
    async with opened(**asking) as inside:
        reply = await inside.call("fixture__slow_compute", {"seconds": 1}, client=WITH_TASKS, takes_task=True)
        assert (reply.call.state, reply.call.remote_task is not None) == (State.RUNNING, True)
        await inside.until(reply.call.id, State.DONE)


async def test_after_a_restart_the_same_task_is_watched_and_nothing_is_called_again(opened, asking):
    async with opened(**asking) as inside:
        begun = (await inside.call("fixture__multi_input", {}, client=WITH_TASKS, takes_task=True)).call
        asked = await inside.until(begun.id, State.WAITING_FOR_INPUT)
        slow = (await inside.call("fixture__slow_compute", {"seconds": 2}, client=WITH_TASKS, takes_task=True)).call
    async with opened(**asking) as inside:
        watched = await inside.until(slow.id, State.DONE)
        assert watched.remote_task.id == slow.remote_task.id
        assert await inside.events(slow.id) == ["start", "follow", "retry", "claim", "settle"]
        for key in asked.round.requests:
            answer = {key: {"action": "accept", "content": {"name": key}}}
            await inside.assembly.gateway.answer_input(begun.id, LOCAL, answer, number=1)
        assert text_of(await inside.until(begun.id, State.DONE)) == "first and second"
        assert "lose" not in await inside.events(begun.id)


async def test_a_cancel_reaches_the_downstreams_task(opened, asking):
    async with opened(**asking) as inside:
        begun = (await inside.call("fixture__slow_compute", {"seconds": 60}, client=WITH_TASKS, takes_task=True)).call
        await inside.operations.cancel(begun, LOCAL)
        ended = await inside.until(begun.id, State.CANCELLED)
        assert ended.outcome.kind is OutcomeKind.CANCELLED


async def test_errors_of_a_downstreams_task_are_the_calls_own(opened, asking):
    async with opened(**asking) as inside:
        tool_error = (await inside.call("fixture__failing_job", {}, client=WITH_TASKS)).call
        broken = (await inside.call("fixture__protocol_error_job", {}, client=WITH_TASKS)).call
        assert tool_error.outcome.kind is OutcomeKind.TOOL_ERROR
        assert (broken.outcome.kind, broken.outcome.payload["code"]) == (OutcomeKind.RPC_ERROR, -32603)


async def test_a_task_that_its_downstream_forgot_leaves_a_write_in_doubt(opened, asking, processes):
    async with opened(**asking) as inside:
        begun = (await inside.call("fixture__multi_input", {}, client=WITH_TASKS, takes_task=True)).call
        asked = await inside.until(begun.id, State.WAITING_FOR_INPUT)
        port = asking["mcpServers"]["fixture"]["url"].rsplit(":", 1)[1].removesuffix("/mcp")
        processes.end_all()
        command = [sys.executable, "-m", "conformance.fixture", "--port", port]
        again = processes.start(command, environment={**os.environ, "PYTHONPATH": str(TESTS)})
        again.wait_for(r"listening on", START_S)
        answers = {key: {"action": "decline"} for key in asked.round.requests}
        await inside.assembly.gateway.answer_input(begun.id, LOCAL, answers, number=1)
        doubtful = await inside.until(begun.id, State.IN_DOUBT)
        assert "Task not found" in doubtful.note
