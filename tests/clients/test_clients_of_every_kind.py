"""Clients that others wrote list, call, wait and are parked; what they cannot show they are told in words."""

import re

import anyio
import pytest
from kinds import those
from support.workspace import Workspace
from system.asking import DEADLINE_S, POLL_S

INLINE_WAIT = "1s"
LONG_MS = 2500
"""Longer than Holdfast keeps a request waiting."""

HANDLES = {f"holdfast__{verb}_task" for verb in ("get", "wait", "cancel", "resume")} | {"holdfast__list_tasks"}
LEDGER = {f"ledger__{name}" for name in ("read", "write", "destroy", "fail", "break", "slow")}
WAIT_S = 20


def task_id_in(words: str) -> str:
    """The handle that the words of a call name, where they also name the tool that waits for it."""
    found = re.search(r'holdfast__wait_task with \{\\?"task_id\\?": \\?"(\w{32})\\?"\}', words)
    assert found is not None, words
    return found[1]


@pytest.fixture
def soon_a_handle(workspace: Workspace) -> Workspace:
    """A config by which a long call is answered with its handle after a second."""
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, "inline_wait": INLINE_WAIT})
    return workspace


async def waited_for(caller, words: str):
    """The result of the call whose handle is in `words`, by the tool that they name."""
    return await caller.call("holdfast__wait_task", {"task_id": task_id_in(words), "timeout_s": WAIT_S})


def one_effect(workspace, tool: str) -> str:
    (effect,) = workspace.ledger.effects(tool)
    assert effect.done
    return effect.id


async def test_every_tool_is_listed_and_a_call_has_its_effect(kind, where, workspace):
    workspace.write_config()
    async with kind.open(where()) as caller:
        assert await caller.names() == LEDGER | HANDLES
        said = await caller.call("ledger__write", {"n": 1})
    assert said.words == f"write 1 as {one_effect(workspace, 'write')}"
    assert not said.is_error


async def test_an_invalid_call_is_refused_with_its_problem_and_an_error_of_the_tool_is_told(kind, where, workspace):
    workspace.write_config()
    async with kind.open(where()) as caller:
        await caller.names()
        refused = await caller.call("ledger__write", {"n": 1, "dely_ms": 5})
        failed = await caller.call("ledger__fail", {"n": 2})
    assert refused.is_error
    assert 'unknown property "dely_ms"; did you mean "delay_ms"?' in refused.words
    assert failed.is_error
    assert f"fail 2 as {one_effect(workspace, 'fail')}" in failed.words
    assert workspace.ledger.effects("write") == []


@pytest.mark.parametrize("kind", those(lambda kind: not kind.follows_tasks))
async def test_a_long_call_is_told_of_in_words_and_its_handle_has_the_result(kind, where, soon_a_handle):
    async with kind.open(where()) as caller:
        await caller.names()
        said = await caller.call("ledger__write", {"n": 1, "delay_ms": LONG_MS})
        assert said.words.startswith("Still running: ledger__write has not finished and nothing failed")
        assert not said.is_error
        said = await waited_for(caller, said.words)
    assert said.words == f"write 1 as {one_effect(soon_a_handle, 'write')}"


@pytest.mark.parametrize("kind", those(lambda kind: not kind.follows_tasks))
async def test_a_parked_call_is_told_of_in_words_and_runs_once_approved(kind, where, workspace, operator):
    workspace.write_config()
    async with kind.open(where()) as caller:
        await caller.names()
        parked = await caller.call("ledger__destroy", {"n": 1})
        assert parked.words.startswith("Waiting for approval: ledger__destroy has not run yet and nothing failed")
        assert not parked.is_error
        assert workspace.ledger.effects() == []
        await operator.approve(task_id_in(parked.words))
        said = await waited_for(caller, parked.words)
    assert said.words == f"destroy 1 as {one_effect(workspace, 'destroy')}"


@pytest.mark.parametrize("kind", those(lambda kind: kind.follows_tasks))
async def test_a_client_with_tasks_has_the_result_of_a_long_and_of_a_parked_call_itself(
    kind, where, soon_a_handle, operator
):
    async with kind.open(where()) as caller:
        said = await caller.call("ledger__write", {"n": 1, "delay_ms": LONG_MS})
        assert said.words == f"write 1 as {one_effect(soon_a_handle, 'write')}"

        async def approve() -> None:
            with anyio.fail_after(DEADLINE_S):
                while not (waiting := (await operator.ask("list_approvals"))["approvals"]):
                    await anyio.sleep(POLL_S)
            await operator.approve(waiting[0]["call_id"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(approve)
            said = await caller.call("ledger__destroy", {"n": 2})
    assert said.words == f"destroy 2 as {one_effect(soon_a_handle, 'destroy')}"
