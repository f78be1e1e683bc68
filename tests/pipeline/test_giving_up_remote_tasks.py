"""A call of which its downstream made a task goes on there, whatever becomes of it here: what may be said of it."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from support.processes import Processes, Running

from holdfast_store.contract import Follow
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call
from holdfast_tools.client import ClientProfile
from holdfast_tools.rounds import Unanswered

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0
DEADLINE_S = 20.0

SILENT = ClientProfile(protocol_version="2025-11-25")
MODERN = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}, "sampling": {}, "roots": {}})
LEGACY = ClientProfile(protocol_version="2025-11-25", capabilities={"elicitation": {}})
WITH_TASKS = ClientProfile(
    protocol_version="2026-07-28",
    capabilities={**MODERN.capabilities, "extensions": {"io.modelcontextprotocol/tasks": {}}},
)
ALLOW = [{"id": "all", "effect": "allow"}]


def serve(processes: Processes, command: list[str]) -> tuple[Running, str]:
    running = processes.start([sys.executable, *command], environment={**os.environ, "PYTHONPATH": str(TESTS)})
    return running, running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)


@pytest.fixture
def served(workspace, processes: Processes) -> tuple[Running, str]:
    """A server of core tasks, and its address."""
    return serve(processes, ["-m", "support.core_task_server", str(workspace.ledger.path), "--http", "0"])


@pytest.fixture
def old(served) -> dict[str, Any]:
    """Settings with that server."""
    return {"mcpServers": {"old": {"url": served[1]}}, "rules": ALLOW, "inline_wait": "20s"}


@pytest.fixture
def asking(processes: Processes) -> dict[str, Any]:
    """Settings with a server of the tasks extension, whose tasks ask for input."""
    _, url = serve(processes, ["-m", "conformance.fixture"])
    return {"mcpServers": {"fixture": {"url": url}}, "rules": ALLOW, "inline_wait": "20s"}


async def decline(requests: dict[str, Any]) -> dict[str, Any]:
    return {key: {"action": "decline"} for key in requests}


@contextmanager
def stopped(running: Running) -> Iterator[None]:
    """Within the block, the process stands still."""
    os.kill(running.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(running.pid, signal.SIGCONT)


async def begin(inside: Any, delay_ms: int = 60_000) -> Call:
    """A job that its downstream has made a task of."""
    begun: Call = (await inside.call("old__job", {"delay_ms": delay_ms}, client=SILENT, takes_task=True)).call
    assert begun.remote_task is not None
    return begun


async def status_of(inside: Any, call: Call) -> str:
    """How the downstream says that the task of `call` is."""
    downstream = inside.assembly.downstreams[call.downstream]
    answer = await downstream.request("tasks/get", {"taskId": call.remote_task.id}, client=WITH_TASKS)
    return str(answer["status"])


async def until_status(inside: Any, call: Call, status: str) -> None:
    with anyio.fail_after(DEADLINE_S):
        while await status_of(inside, call) != status:
            await anyio.sleep(0.01)


async def test_a_cancel_while_nobody_can_reach_the_task_says_nothing_before_the_downstream_does(opened, served, old):
    async with opened(**old) as inside:
        begun = await begin(inside)
    with stopped(served[0]):
        async with opened(**{**old, "mcpServers": {"old": {"url": served[1], "connect_timeout": "1s"}}}) as inside:
            found = await inside.store.get_call(begun.id)
            after = await inside.operations.cancel(found, LOCAL)
            assert (after.ended, after.cancel_requested) == (False, True)
    async with opened(**old) as inside:
        await inside.until(begun.id, State.CANCELLED)
        (effect,) = inside.workspace.ledger.effects("job")
        assert not effect.done


async def test_a_cancel_while_the_task_is_being_written_down_reaches_it(opened, old):
    async with opened(**old) as inside:
        with inside.late_answers(Follow) as late:
            begun = (await inside.call("old__job", {"delay_ms": 60_000}, client=SILENT, at_once=True)).call
            await late.reached.wait()
            after = await inside.operations.cancel(await inside.store.get_call(begun.id), LOCAL)
            assert (after.state, after.cancel_requested) == (State.RUNNING, True)
            late.let_go()
        await inside.until(begun.id, State.CANCELLED)
        (effect,) = inside.workspace.ledger.effects("job")
        assert not effect.done


async def test_a_cancel_of_a_call_whose_task_asks_goes_by_what_the_task_becomes(opened, asking):
    async with opened(**asking) as inside:
        asked = (await inside.call("fixture__multi_input", {}, client=WITH_TASKS)).call
        assert (asked.state, asked.round.attached) == (State.WAITING_FOR_INPUT, False)
        assert not (await inside.operations.cancel(asked, LOCAL)).ended
        await inside.until(asked.id, State.CANCELLED)
        assert await status_of(inside, asked) == "cancelled"
        assert (await inside.events(asked.id))[-4:] == ["cancel_requested", "answer", "claim", "cancel"]


async def test_a_task_whose_downstream_left_the_config_is_in_doubt(opened, old):
    async with opened(**old) as inside:
        begun = await begin(inside)
    async with opened() as inside:
        doubtful = await inside.until(begun.id, State.IN_DOUBT, State.FAILED)
        assert doubtful.state is State.IN_DOUBT
        assert "not configured" in doubtful.note


async def test_a_task_whose_tool_is_gone_is_in_doubt(opened, old, served, workspace, processes):
    async with opened(**old) as inside:
        begun = await begin(inside)
    served[0].kill()
    port = str(urlsplit(served[1]).port)
    command = ["-m", "support.core_task_server", str(workspace.ledger.path), "--http", port, "--without", "job"]
    serve(processes, command)
    async with opened(**old) as inside:
        doubtful = await inside.until(begun.id, State.IN_DOUBT, State.FAILED)
        assert doubtful.state is State.IN_DOUBT


async def test_a_task_whose_downstream_stays_away_is_in_doubt_after_the_tools_timeout(opened, served, old):
    async with opened(**old) as inside:
        begun = await begin(inside)
    served[0].kill()
    async with opened(**old, tools={"old__job": {"timeout": "1s"}}) as inside:
        doubtful = await inside.until(begun.id, State.IN_DOUBT)
        assert "cannot be watched any more" in doubtful.note


async def test_a_task_that_comes_as_late_evidence_leaves_the_doubt(opened, served, old):
    async with opened(**old, tools={"old__job": {"timeout": "1s"}}) as inside:
        with stopped(served[0]):
            lost = (await inside.call("old__job", {"delay_ms": 0}, client=SILENT)).call
            assert lost.state is State.IN_DOUBT
        with anyio.fail_after(DEADLINE_S):
            while "late_task" not in await inside.events(lost.id):
                await anyio.sleep(0.01)
        (*_, entry) = await inside.store.journal(lost.id)
        assert entry.detail["task"]
        assert (await inside.store.get_call(lost.id)).state is State.IN_DOUBT


async def test_a_task_whose_question_nobody_answers_in_time_is_cancelled(opened, asking, clock):
    async with opened(**asking) as inside:
        asked = (await inside.call("fixture__multi_input", {}, client=WITH_TASKS)).call
        clock.pass_by(25 * 3600)
        inside.assembly.runner.wake()
        await inside.until(asked.id, State.FAILED)
        await until_status(inside, asked, "cancelled")


async def test_a_task_whose_question_the_client_refuses_is_cancelled(opened, asking):
    async def refuse(requests: dict[str, Any]) -> dict[str, Any]:
        raise Unanswered("no")

    async with opened(**asking) as inside:
        ended = (await inside.call("fixture__multi_input", {}, client=WITH_TASKS, ask=refuse)).call
        assert ended.state is State.FAILED
        await until_status(inside, ended, "cancelled")


@pytest.mark.parametrize(
    ("server", "end"),
    [
        (["-m", "conformance.fixture"], State.CANCELLED),
        ([str(TESTS / "pipeline" / "legacy_asking.py"), "--http"], None),
    ],
    ids=["in its answer", "in its midst"],
)
async def test_a_call_that_asks_after_its_cancel_waits_for_nobody(opened, processes, server, end):
    running, url = serve(processes, server)
    tool = "far__test_input_required_result_elicitation"
    async with opened(mcpServers={"far": {"url": url}}, rules=ALLOW, inline_wait="20s") as inside:
        if end is None:  # so that there is a session
            await inside.call(tool, {}, client=LEGACY, ask=decline)
        with stopped(running):
            client = MODERN if end is not None else LEGACY
            begun = (await inside.call(tool, {}, client=client, at_once=True)).call
            with anyio.fail_after(DEADLINE_S):
                while not inside.assembly.runner._slots.get(begun.id).sent:
                    await anyio.sleep(0.01)
            after = await inside.operations.cancel(await inside.store.get_call(begun.id), LOCAL)
            assert (after.state, after.cancel_requested) == (State.RUNNING, True)
        ended = await inside.until(begun.id, State.CANCELLED, State.DONE, State.FAILED)
        assert ended.state is end or (end is None and ended.state is not State.CANCELLED)
        assert "ask" in await inside.events(begun.id)


async def test_watched_tasks_leave_their_slots_to_others(opened, old):
    async with opened(**old) as inside:
        before = inside.assembly.runner.free_slots
        begun = await begin(inside)
        assert inside.assembly.runner.is_under_way(begun.id)
        assert inside.assembly.runner.free_slots == before
        with pytest.raises(MCPError):
            await inside.assembly.downstreams["old"].request("tasks/get", {"taskId": "no such task"})
