"""Tools of 2025-11-25 that are called as tasks: asked for, watched to their end, asked back by, found again."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.processes import Processes

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call, OutcomeKind, Principal
from holdfast_tools.client import ClientProfile

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0

SILENT = ClientProfile(protocol_version="2025-11-25")
LEGACY = ClientProfile(protocol_version="2025-11-25", capabilities={"elicitation": {}})
MODERN = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}})
NAME = {"action": "accept", "content": {"name": "Zoë"}}


def command(workspace: Any, *options: str) -> list[str]:
    return [sys.executable, "-m", "support.core_task_server", str(workspace.ledger.path), *options]


def settings(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mcpServers": {"old": entry}, "rules": [{"id": "all", "effect": "allow"}], "inline_wait": "20s", **more}


@pytest.fixture
def over_stdio(workspace) -> dict[str, Any]:
    program, *args = command(workspace)
    return settings({"command": program, "args": args, "env": {"PYTHONPATH": str(TESTS)}})


@pytest.fixture
def over_http(workspace, processes: Processes) -> dict[str, Any]:
    running = processes.start(command(workspace, "--http", "0"), environment={**os.environ, "PYTHONPATH": str(TESTS)})
    return settings({"url": running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)})


@pytest.fixture(params=["stdio", "http"])
def serving(request) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(f"over_{request.param}")
    return found


def text_of(call: Call) -> str:
    assert call.outcome is not None, call.state
    return str(call.outcome.payload["content"][0]["text"])


async def test_a_tool_that_requires_a_task_is_called_as_one(opened, serving):
    async with opened(**serving) as inside:
        call = (await inside.call("old__job", {"n": 1}, client=SILENT)).call
        assert text_of(call) == "job 1"
        assert await inside.events(call.id) == ["start", "follow", "settle"]
        assert call.remote_task.core
        assert call.outcome.payload["_meta"] == {"kept": True}


async def test_a_read_that_requires_a_task_is_recorded_and_watched(opened, serving):
    async with opened(**serving) as inside:
        call = (await inside.call("old__look", {"n": 1}, client=SILENT)).call
        assert text_of(call) == "look 1"
        assert await inside.events(call.id) == ["start", "follow", "settle"]


async def test_a_write_that_can_be_a_task_is_one_unless_config_says_never(opened, over_stdio):
    async with opened(**over_stdio) as inside:
        assert text_of((await inside.call("old__either", {"n": 1})).call) == "either 1"
    async with opened(**over_stdio, tools={"old__either": {"task": "never"}}) as inside:
        assert text_of((await inside.call("old__either", {"n": 2})).call) == "either 2 plainly"


async def test_a_read_that_can_be_a_task_is_called_plainly(opened, over_stdio):
    reads = {"old__either": {"annotations": {"readOnlyHint": True}}}
    async with opened(**over_stdio, tools=reads) as inside:
        assert text_of((await inside.call("old__either", {"n": 1})).call) == "either 1 plainly"


async def test_what_its_task_failed_with_is_the_calls_own(opened, over_stdio):
    async with opened(**over_stdio) as inside:
        failed = (await inside.call("old__fail", {"n": 1})).call
        broken = (await inside.call("old__break", {"n": 1})).call
        assert (failed.outcome.kind, text_of(failed)) == (OutcomeKind.TOOL_ERROR, "fail 1")
        assert broken.outcome.kind is OutcomeKind.RPC_ERROR
        assert broken.outcome.payload == {"code": -32603, "message": "broken on purpose", "data": {"tool": "break"}}


async def test_a_cancel_reaches_the_task(opened, serving):
    async with opened(**serving) as inside:
        begun = (await inside.call("old__job", {"delay_ms": 60_000}, takes_task=True)).call
        await inside.operations.cancel(begun, LOCAL)
        ended = await inside.until(begun.id, State.CANCELLED)
        assert ended.outcome.kind is OutcomeKind.CANCELLED
        (effect,) = inside.workspace.ledger.effects("job")
        assert not effect.done


async def test_after_a_restart_the_same_task_is_watched_and_nothing_is_called_again(opened, over_http):
    async with opened(**over_http) as inside:
        begun = (await inside.call("old__job", {"n": 7, "delay_ms": 2000}, takes_task=True)).call
    async with opened(**over_http) as inside:
        done = await inside.until(begun.id, State.DONE)
        assert (text_of(done), done.remote_task.id) == ("job 7", begun.remote_task.id)
        assert await inside.events(begun.id) == ["start", "follow", "retry", "claim", "settle"]
        assert len(inside.workspace.ledger.effects("job")) == 1


async def test_a_task_that_is_watched_holds_its_line_across_a_restart(opened, over_http):
    over_http["tools"] = {"old__job": {"order": "on"}}
    async with opened(**over_http) as inside:
        first = (await inside.call("old__job", {"n": 1, "delay_ms": 2000}, takes_task=True)).call
        second = (await inside.call("old__job", {"n": 2}, at_once=True)).call
        assert second.state is State.QUEUED
    async with opened(**over_http) as inside:
        await inside.until(second.id, State.DONE)
        assert (await inside.store.get_call(first.id)).state is State.DONE
        assert [effect.arguments["n"] for effect in inside.workspace.ledger.effects("job")] == [1, 2]
        assert inside.workspace.ledger.overlaps("job") == []


async def test_a_task_that_died_with_its_process_leaves_a_write_in_doubt(opened, over_stdio):
    async with opened(**over_stdio) as inside:
        begun = (await inside.call("old__job", {"delay_ms": 60_000}, takes_task=True)).call
    async with opened(**over_stdio) as inside:
        doubtful = await inside.until(begun.id, State.IN_DOUBT)
        assert "Task not found" in doubtful.note
        assert len(inside.workspace.ledger.effects("job")) == 1


async def test_what_a_task_asks_becomes_a_round_and_the_answer_goes_to_it(opened, serving):
    async with opened(**serving) as inside:
        asked = (await inside.call("old__ask", {"n": 1}, client=MODERN)).call
        assert (asked.state, asked.round.attached) == (State.WAITING_FOR_INPUT, True)
        (request,) = asked.round.requests.values()
        assert request["params"]["message"] == "What is your name?"
        assert "related-task" not in str(request)
        await inside.assembly.gateway.answer_input(asked.id, LOCAL, {"input": NAME}, number=1)
        assert text_of(await inside.until(asked.id, State.DONE)) == "ask 1 for Zoë"
        assert await inside.events(asked.id) == ["start", "follow", "ask", "continue", "settle"]


async def test_a_client_that_can_be_asked_while_it_waits_is_asked_what_a_task_asks(opened, serving):
    async def ask(requests):
        return dict.fromkeys(requests, NAME)

    async with opened(**serving) as inside:
        assert text_of((await inside.call("old__ask", {"n": 1}, client=LEGACY, ask=ask)).call) == "ask 1 for Zoë"


async def test_two_tasks_that_ask_at_once_each_get_their_own_answer(opened, serving):
    async with opened(**serving) as inside:
        asked = [(await inside.call("old__ask", {"n": n}, client=MODERN)).call for n in (1, 2)]
        for call, name in zip(asked, ("Ada", "Zoë"), strict=True):
            answer = {"input": {"action": "accept", "content": {"name": name}}}
            await inside.assembly.gateway.answer_input(call.id, LOCAL, answer, number=1)
        ended = [text_of(await inside.until(call.id, State.DONE)) for call in asked]
        assert ended == ["ask 1 for Ada", "ask 2 for Zoë"]


async def test_a_question_of_a_task_is_asked_again_after_a_restart(opened, over_http):
    async with opened(**over_http) as inside:
        asked = (await inside.call("old__ask", {"n": 1}, client=MODERN, principal=Principal("ada"))).call
        assert asked.round.number == 1
    async with opened(**over_http) as inside:
        again = await inside.until(asked.id, State.WAITING_FOR_INPUT)
        assert (again.round.number, again.round.attached) == (2, True)
        await inside.assembly.gateway.answer_input(asked.id, Principal("ada"), {"input": NAME}, number=2)
        assert text_of(await inside.until(asked.id, State.DONE)) == "ask 1 for Zoë"
        assert len(inside.workspace.ledger.effects("ask")) == 1


async def test_a_cancel_reaches_a_task_that_asks(opened, serving):
    async with opened(**serving) as inside:
        asked = (await inside.call("old__ask", {"n": 1}, client=MODERN)).call
        await inside.operations.cancel(asked, LOCAL)
        assert (await inside.until(asked.id, State.CANCELLED)).cancel_requested
