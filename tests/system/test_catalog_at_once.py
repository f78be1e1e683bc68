"""What clients see while downstreams start, and of those that do not start at all."""

import json
import sys
from typing import Any

from asking import over_stdio, record, until, words
from plain_client import plain_client
from support.workspace import Workspace

from holdfast_server.mcp.relay import DECLARED_WAIT_S

LATE_START_MS = 1500

BREAKABLE = """
import os, sys
from pathlib import Path
if Path(sys.argv[1]).exists():
    print("opening the database", file=sys.stderr)
    sys.exit("no such database: ledger.db")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


async def names(client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


def breakable(workspace: Workspace) -> dict[str, Any]:
    """A ledger downstream that exits with a complaint as long as the file `broken` is there."""
    script = workspace.folder / "breakable.py"
    script.write_text(BREAKABLE)
    _, *arguments = workspace.ledger_command()
    working = workspace.ledger_downstream()
    return {**working, "command": sys.executable, "args": [str(script), str(workspace.folder / "broken"), *arguments]}


def hanging() -> dict[str, Any]:
    """A downstream that starts and never says a word."""
    return {"command": sys.executable, "args": ["-c", "import sys; sys.stdin.read()"]}


async def test_a_first_listing_waits_and_every_later_one_is_there_before_the_downstream_is(workspace, operator, era):
    late = workspace.ledger_downstream("--start-delay-ms", str(LATE_START_MS))
    workspace.write_config({"mcpServers": {"ledger": late}})
    async with over_stdio(workspace, era) as client:
        first = await names(client)
        assert {"ledger__read", "ledger__write"} < first
        assert (await operator.downstream("ledger"))["state"] == "connected"

        await operator.stop()
        assert await names(client) == first
        assert (await operator.downstream("ledger"))["state"] == "starting"
        result = await client.call_tool("ledger__write", {"n": 1})
        assert words(result).startswith("write 1 as ")
        assert (await operator.downstream("ledger"))["state"] == "connected"


async def test_a_downstream_that_never_answers_holds_up_no_neighbour_and_no_listing_beyond_its_bound(
    workspace, operator, era
):
    silent = {**hanging(), "connect_timeout": f"{DECLARED_WAIT_S + 3:g}s"}
    workspace.write_config({"mcpServers": {"silent": silent, "ledger": workspace.ledger_downstream()}})
    # A plain client: the SDK's own asks for a listing before its first call.
    async with plain_client(workspace) as plain, over_stdio(workspace, era) as client:
        result = await plain.call_tool("ledger__write", {"n": 1})
        assert result["content"][0]["text"].startswith("write 1 as ")
        assert (await operator.downstream("silent"))["state"] == "starting"
        listed = await names(client)
        assert (await operator.downstream("silent"))["state"] == "failed"
        assert {name.partition("__")[0] for name in listed} == {"ledger", "holdfast"}
        refused = await client.call_tool("silent__anything", {})
        assert refused.is_error
        assert "'silent'" in words(refused)
        assert f"within {DECLARED_WAIT_S + 3:g} s" in words(refused)


async def test_a_downstream_that_never_started_is_named_with_its_last_words(workspace):
    (workspace.folder / "broken").touch()
    workspace.write_config({"mcpServers": {"db": breakable(workspace), "ledger": workspace.ledger_downstream()}})
    async with over_stdio(workspace) as client:
        assert {name.partition("__")[0] for name in await names(client)} == {"ledger", "holdfast"}
        refused = await client.call_tool("db__write", {"n": 1})
        assert refused.is_error
        assert record(refused)["code"] == "downstream"
        assert "'db'" in words(refused)
        assert "no such database: ledger.db" in words(refused)
        assert words(await client.call_tool("ledger__write", {"n": 2})).startswith("write 2 as ")
        doctored(workspace)


async def test_a_downstream_that_no_longer_starts_is_named_in_its_calls_answer(workspace, operator):
    workspace.write_config({"mcpServers": {"db": breakable(workspace), "ledger": workspace.ledger_downstream()}})
    async with over_stdio(workspace) as client:
        first = await names(client)
        (workspace.folder / "broken").touch()
        await operator.stop()
        assert await names(client) == first
        result = await client.call_tool("db__write", {"n": 1})
        assert result.is_error
        assert words(result).startswith("The call failed and nothing was sent: the downstream 'db' cannot be reached")
        assert "no such database: ledger.db" in words(result)
        assert record(result)["status"] == "failed"
        assert words(await client.call_tool("ledger__write", {"n": 2})).startswith("write 2 as ")
        doctored(workspace)

        (workspace.folder / "broken").unlink()
        await until(lambda: doctor(workspace)["server db"]["level"] == "ok", "the downstream's return")
        assert words(await client.call_tool("db__write", {"n": 3})).startswith("write 3 as ")
    assert [effect.arguments["n"] for effect in workspace.ledger.effects()] == [2, 3]


def doctor(workspace: Workspace) -> dict[str, dict[str, str]]:
    """What `holdfast doctor` finds, by what it is about."""
    findings = json.loads(workspace.run("doctor", str(workspace.config), "--json").stdout)["findings"]
    return {finding["about"]: finding for finding in findings}


def doctored(workspace: Workspace) -> None:
    """`holdfast doctor` says that `db` does not start, in its last words, and that `ledger` does."""
    found = doctor(workspace)
    assert found["server db"]["level"] == "problem"
    assert "no such database: ledger.db" in found["server db"]["text"]
    assert found["server ledger"]["level"] == "ok"
