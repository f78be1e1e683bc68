"""What an agent sees of deadlines, and of servers that have no room or are left alone."""

import pytest
from mcp.shared.exceptions import MCPError

CALL = "dev.holdfast/call"
DEADLINE = "dev.holdfast/deadline"


async def test_a_call_for_which_there_is_no_room_is_told_when_to_come_back(started, workspace, era):
    narrow = {**workspace.ledger_downstream(), "max_concurrency": 1, "max_queue": 0}
    service = started(mcpServers={"ledger": narrow}, inline_wait="100ms")
    async with service.client(era) as client:
        await client.call_tool("ledger__write", {"n": 1, "delay_ms": 60_000})
        result = await client.call_tool("ledger__write", {"n": 2})
        assert result.is_error
        record = result.meta[CALL]
        assert (record["id"], record["status"], record["code"]) == (None, "refused", "overloaded")
        assert f"may be made again in {record['retry_after_s']} s" in result.content[0].text
        async with service.admin() as admin:
            (ledger,) = (await admin.call_tool("engine_status", {})).structured_content["downstreams"]
    assert (ledger["under_way"], ledger["max_concurrency"], ledger["queued"], ledger["max_queue"]) == (1, 1, 0, 0)
    assert (ledger["breaker"]["state"], ledger["breaker"]["next_probe_at"]) == ("closed", None)
    assert len(workspace.ledger.effects()) == 1


async def test_a_breaker_that_is_open_stands_in_the_status(started, workspace):
    service = started(tools={"ledger__write": {"timeout": "50ms"}})
    async with service.client() as client:
        for n in range(5):
            await client.call_tool("ledger__write", {"n": n, "delay_ms": 60_000})
        async with service.admin() as admin:
            (ledger,) = (await admin.call_tool("engine_status", {})).structured_content["downstreams"]
    assert ledger["breaker"]["state"] == "open"
    assert ledger["breaker"]["failures"] == 5
    assert ledger["breaker"]["since"] < ledger["breaker"]["next_probe_at"]
    findings = workspace.run("doctor", str(workspace.config)).stdout
    assert "5 answers in a row were lost" in findings


async def test_a_clients_deadline_counts(started, workspace, era):
    narrow = {**workspace.ledger_downstream(), "max_concurrency": 1}
    service = started(mcpServers={"ledger": narrow}, inline_wait="100ms")
    async with service.client(era) as client:
        await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 60_000})
        queued = await client.call_tool("ledger__write", {"n": 2}, meta={DEADLINE: "200ms"})
        task = {"task_id": queued.meta[CALL]["id"], "timeout_s": 20}
        ended = await client.call_tool("holdfast__wait_task", task)
    assert ended.content[0].text.startswith("Expired; nothing ran")
    assert workspace.ledger.effects("write") == []


@pytest.mark.parametrize("deadline", [30, "soon", "0s", ""])
async def test_a_deadline_that_makes_no_sense_is_refused_rather_than_dropped(started, deadline):
    service = started()
    async with service.client() as client:
        with pytest.raises(MCPError, match="deadline"):
            await client.call_tool("ledger__write", {"n": 3}, meta={DEADLINE: deadline})
    assert service.workspace.ledger.effects() == []
