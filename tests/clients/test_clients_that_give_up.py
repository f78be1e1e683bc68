"""A call outlasts its client's patience; the client asks twice more, then asks Holdfast: one effect, one result."""

import re
from contextlib import suppress

import pytest
from _pytest.mark.structures import ParameterSet
from callers import Caller, Said
from kinds import those

PATIENCE_S = 2.0
TRIES = 3
WAITS = 60
SHORT_MS = 5000
"""Ends in the third try."""

LONG_MS = 30_000


async def insist(caller: Caller, effect_ms: int) -> Said:
    """The result of a call that is tried `TRIES` times, and then looked for among the tasks."""
    for _ in range(TRIES):
        with suppress(TimeoutError):
            return await caller.call("ledger__write", {"n": 1, "delay_ms": effect_ms}, PATIENCE_S)
    listed = await caller.call("holdfast__list_tasks", {}, PATIENCE_S)
    (task_id,) = set(re.findall(r"\b[0-9a-f]{32}\b", listed.words))
    for _ in range(WAITS):
        said = await caller.call("holdfast__wait_task", {"task_id": task_id, "timeout_s": 1}, PATIENCE_S)
        if not said.words.startswith("Still running: "):
            return said
    raise TimeoutError(f"task {task_id} has no result: {said.words}")


def lasting(effect_ms: int, *marks: pytest.MarkDecorator) -> list[ParameterSet]:
    """Each client that can give up, with a call that takes so long."""
    cases = those(lambda kind: kind.gives_up)
    seconds = effect_ms // 1000
    return [
        pytest.param(*case.values, effect_ms, id=f"{case.id}-{seconds}s", marks=[*case.marks, *marks]) for case in cases
    ]


@pytest.mark.parametrize(("kind", "effect_ms"), [*lasting(SHORT_MS), *lasting(LONG_MS, pytest.mark.long)])
async def test_a_client_that_gives_up_and_asks_twice_more_has_one_effect_and_its_result(
    kind, effect_ms, where, workspace
):
    workspace.write_config()
    async with kind.open(where()) as caller:
        await caller.names()
        said = await insist(caller, effect_ms)
    (effect,) = workspace.ledger.effects()
    assert effect.done
    assert said.words.startswith(f"write 1 as {effect.id}")
    assert not said.is_error
