"""Two clients that each spawn `holdfast serve` on the same config share one engine and one downstream."""

from collections import Counter

import anyio
from asking import DEADLINE_S, KEY, POLL_S, engines, ledger_servers, over_stdio, record, shims

CALLS = 500
IN_FLIGHT = 16


async def test_five_hundred_calls_of_each_are_neither_lost_nor_run_twice(workspace, operator):
    workspace.write_config()
    answered: dict[str, str] = {}
    together = anyio.Event()
    arrived = []

    async def client(number: int, era: str) -> None:
        async with over_stdio(workspace, era) as session:
            arrived.append(number)
            if len(arrived) == 2:
                together.set()
            with anyio.fail_after(DEADLINE_S):
                await together.wait()
            if number == 0:
                assert len(shims(workspace)) == 2
            mine = iter(range(CALLS))
            async with anyio.create_task_group() as tasks:
                for _ in range(IN_FLIGHT):
                    tasks.start_soon(worker, session, number, mine)

    async def worker(session, number, mine) -> None:
        for turn in mine:
            name, arguments, key = call_of(number, turn)
            result = await session.call_tool(name, arguments, meta={KEY: key} if key else None)
            if record(result)["status"] == "running":
                result = await session.call_tool("holdfast__wait_task", {"task_id": record(result)["id"]})
            assert record(result)["status"] == "done", result
            answered[f"{number}-{turn}"] = record(result)["id"]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client, 0, "auto")
        tasks.start_soon(client, 1, "legacy")

    asked = [call_of(number, turn) for number in (0, 1) for turn in range(CALLS)]
    writes = {arguments["n"] for name, arguments, _ in asked if name == "ledger__write"}
    effects = workspace.ledger.effects()
    assert Counter(effect.arguments["n"] for effect in effects) == dict.fromkeys(writes, 1)
    assert all(effect.done for effect in effects)

    assert len(answered) == 2 * CALLS
    shared = sum(key is not None and key.startswith("shared") for _, _, key in asked) // 2
    assert len(set(answered.values())) == 2 * CALLS - shared
    assert await stored(operator, 2 * CALLS - shared) == set(answered.values())

    assert len(engines(workspace)) == 1
    assert ledger_servers(workspace) == [effects[0].pid]
    assert {effect.pid for effect in effects} == {effects[0].pid}


def call_of(number: int, turn: int) -> tuple[str, dict[str, int], str | None]:
    """Each client's mix: reads, writes without a key, writes with its own, and writes with a key that both use."""
    match turn % 4:
        case 0:
            return "ledger__read", {"n": turn}, None
        case 1:
            return "ledger__write", {"n": 10_000 * (number + 1) + turn}, None
        case 2:
            return "ledger__write", {"n": 10_000 * (number + 1) + turn}, f"own-{number}-{turn}"
        case _:
            return "ledger__write", {"n": turn}, f"shared-{turn}"


async def stored(operator, expected: int) -> set[str]:
    """The ids of all calls in the store, all done; plain reads are written down shortly after their answer."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            calls = (await operator.ask("list_calls", limit=10 * CALLS))["calls"]
            if len(calls) >= expected:
                break
            await anyio.sleep(POLL_S)
    assert {call["status"] for call in calls} == {"done"}
    return {call["id"] for call in calls}
