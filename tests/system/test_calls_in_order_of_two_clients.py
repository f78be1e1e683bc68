"""Two clients call a tool whose calls run one at a time: the downstream's own ledger says in which order they did."""

from contextlib import suppress

import anyio
from asking import DEADLINE_S, engine_pid, kill, over_stdio, record
from mcp import MCPError

LINE, BESIDE = "line", "beside"
IN_LINE = 20
DELAY_MS = 20
LONG_MS = 2_000


def configured(workspace) -> None:
    tools = {"ledger__write": {"order": {"by": "/ref"}}}
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "tools": tools, "inline_wait": "30s"})


async def write(session, n: int, ref: str, delay_ms: int) -> None:
    await session.call_tool("ledger__write", {"n": n, "ref": ref, "delay_ms": delay_ms})


async def cut_off(session, n: int) -> None:
    """A write of the line whose engine may die; the shim says so, and the call is kept."""
    with suppress(MCPError):
        await write(session, n, LINE, DELAY_MS)


async def admitted(operator, ref: str) -> list[dict]:
    """The calls with this value, in the order of their admission."""
    calls = (await operator.ask("list_calls", limit=100))["calls"]
    return [call for call in reversed(calls) if call["arguments"].get("ref") == ref]


def began(workspace, ref: str) -> list[int]:
    return [e.arguments["n"] for e in workspace.ledger.effects("write") if e.arguments["ref"] == ref]


async def test_writes_of_two_clients_at_once_run_in_the_order_of_their_admission_and_others_beside_them(
    workspace, operator
):
    configured(workspace)
    async with over_stdio(workspace) as one, over_stdio(workspace, "legacy") as other:
        await one.list_tools()
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write, one, -1, BESIDE, LONG_MS)
                for n in range(IN_LINE):
                    tasks.start_soon(write, (one, other)[n % 2], n, LINE, DELAY_MS)
        calls = await admitted(operator, LINE)
        assert began(workspace, LINE) == [call["arguments"]["n"] for call in calls]
        assert {call["status"] for call in calls} == {"done"}
        assert len(calls) == IN_LINE
        assert workspace.ledger.overlaps("write", by="ref") == []
        assert any(BESIDE in (a.arguments["ref"], b.arguments["ref"]) for a, b in workspace.ledger.overlaps("write"))

        last = (await operator.ask("get_call", call_id=calls[-1]["id"]))["timeline"]
        assert [entry["event"] for entry in last] == ["admit", "next_in_line", "claim", "settle"]
        assert last[1]["detail"]["waited_for_call"] == calls[-2]["id"]
        shown = workspace.run("calls", "show", str(workspace.config), calls[-1]["id"]).stdout
        assert "its turn in its line has come" in shown
        assert calls[-2]["id"] in shown


async def test_a_killed_engine_loses_nobodys_place(workspace, operator):
    configured(workspace)
    async with over_stdio(workspace) as one, over_stdio(workspace, "legacy") as other:
        await one.list_tools()
        await other.list_tools()
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                for n in range(IN_LINE):
                    tasks.start_soon(cut_off, (one, other)[n % 2], n)
                while len(began(workspace, LINE)) < 3 or len(await admitted(operator, LINE)) < IN_LINE:
                    await anyio.sleep(0.01)
                await kill(engine_pid(workspace))
        calls = [await operator.settled(call["id"]) for call in await admitted(operator, LINE)]
        again = record(await one.call_tool("ledger__write", {"n": IN_LINE, "ref": LINE}))
    assert again["status"] == "done"
    assert began(workspace, LINE) == [*(call["arguments"]["n"] for call in calls), IN_LINE]
    assert workspace.ledger.overlaps("write", by="ref") == []
    doubtful = [call for call in calls if call["status"] == "in_doubt"]
    assert len(doubtful) <= 1
    assert {call["status"] for call in calls if call not in doubtful} == {"done"}
