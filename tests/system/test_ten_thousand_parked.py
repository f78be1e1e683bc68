"""Ten thousand calls wait for people: they cost the engine next to nothing, and every one of them can be found."""

import anyio
from asking import DEADLINE_S, engine_pid, resident_bytes
from plain_client import PlainClient, plain_client

PARKED = 10_000
WARM_UP = 500
IN_FLIGHT = 64
PAGE = 1_000
DEFAULT_PAGE = 50
MEGABYTE = 1024 * 1024
MOST_BYTES = 30 * MEGABYTE


async def park(client: PlainClient, first: int, count: int) -> None:
    """Park the calls `first` to `first + count - 1`."""
    numbers = iter(range(first, first + count))

    async def worker() -> None:
        for n in numbers:
            result = await client.call_tool("ledger__destroy", {"n": n}, DEADLINE_S)
            assert result["_meta"]["dev.holdfast/call"]["status"] == "waiting_for_approval", result

    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(worker)


async def test_ten_thousand_parked_calls_take_under_thirty_megabytes_and_each_is_listed_once(workspace, operator):
    workspace.write_config()
    async with plain_client(workspace) as client:
        await park(client, 0, WARM_UP)
        await operator.ask("list_approvals", limit=PAGE)
        pid = engine_pid(workspace)
        before = resident_bytes(pid)
        await park(client, WARM_UP, PARKED)
        taken = resident_bytes(pid) - before
        assert engine_pid(workspace) == pid
        assert taken < MOST_BYTES, f"{taken / MEGABYTE:.1f} MB"

        first = await operator.ask("list_approvals")
        assert len(first["approvals"]) == DEFAULT_PAGE
        assert {approval["status"] for approval in first["approvals"]} == {"pending"}
        seen = []
        page = await operator.ask("list_approvals", limit=PAGE)
        assert [approval["id"] for approval in page["approvals"][:DEFAULT_PAGE]] == [
            approval["id"] for approval in first["approvals"]
        ]
        while True:
            seen += [approval["arguments"]["n"] for approval in page["approvals"]]
            if "cursor" not in page:
                break
            page = await operator.ask("list_approvals", limit=PAGE, cursor=page["cursor"])
    assert sorted(seen) == list(range(WARM_UP + PARKED))
    assert workspace.ledger.effects() == []
