"""What an agent sees over HTTP, in both eras: the tools, the answers, the handles, and nothing of the admins'."""

import sqlite3
from contextlib import closing

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

CALL = "dev.holdfast/call"
KEY = "dev.holdfast/idempotencyKey"

PLAIN = {f"holdfast__{verb}_task" for verb in ("get", "wait", "cancel", "resume")} | {"holdfast__list_tasks"}


def words(result) -> str:
    return "\n".join(block.text for block in result.content)


async def test_every_tool_is_listed_with_the_plain_tools_and_none_of_the_admins(started, era):
    async with started().client(era) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert names == PLAIN | {f"ledger__{name}" for name in ("read", "write", "destroy", "fail", "break", "slow")}


async def test_a_schema_reaches_the_client_as_the_downstream_wrote_it(started, era):
    async with started().client(era) as client:
        (tool,) = [tool for tool in (await client.list_tools()).tools if tool.name == "ledger__read"]
    assert tool.input_schema["properties"]["n"] == {"type": "integer"}
    assert tool.annotations.read_only_hint


async def test_the_model_is_told_how_calls_behave(started, era):
    async with started().client(era) as client:
        assert "holdfast__wait_task" in client.instructions


async def test_a_call_is_answered_with_its_result_and_its_record(started, era):
    async with started().client(era) as client:
        result = await client.call_tool("ledger__write", {"n": 3})
    assert words(result).startswith("write 3 as ")
    assert result.meta[CALL]["status"] == "done"
    assert result.meta[CALL]["attempts"] == 1


async def test_a_refused_call_lists_each_problem_in_words(started, era):
    service = started()
    async with service.client(era) as client:
        result = await client.call_tool("ledger__write", {"m": 3})
    assert result.is_error
    assert '"m"' in words(result)
    assert '"n"' in words(result)
    assert result.meta[CALL]["code"] == "invalid_arguments"
    assert service.workspace.ledger.effects() == []


async def test_an_unknown_tool_is_a_protocol_error(started, era):
    async with started().client(era) as client:
        with pytest.raises(MCPError, match="ledger__write"):
            await client.call_tool("ledger__wriet", {"n": 3})


async def test_a_key_in_meta_replays(started, era):
    service = started()
    async with service.client(era) as client:
        first = await client.call_tool("ledger__write", {"n": 3}, meta={KEY: "k"})
        again = await client.call_tool("ledger__write", {"n": 3}, meta={KEY: "k"})
    assert again.meta[CALL]["replayed"]
    assert words(again) == words(first)
    assert len(service.workspace.ledger.effects("write")) == 1


async def test_a_key_that_is_no_string_is_refused_rather_than_dropped(started):
    service = started()
    async with service.client() as client:
        with pytest.raises(MCPError, match="idempotencyKey"):
            await client.call_tool("ledger__write", {"n": 3}, meta={KEY: 7})
    assert service.workspace.ledger.effects() == []


async def test_a_parked_call_is_answered_at_once_with_a_handle_that_an_admin_can_decide(started, era):
    service = started()
    async with service.client(era) as client, service.admin() as admin:
        parked = await client.call_tool("ledger__destroy", {"n": 1})
        assert words(parked).startswith("Waiting for approval")
        assert not parked.is_error
        task_id = parked.meta[CALL]["id"]
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
        assert approval["call_id"] == task_id
        assert approval["id"] not in words(parked)
        await admin.call_tool("approve", {"approval_id": approval["id"], "comment": "fine"})
        result = await client.call_tool("holdfast__wait_task", {"task_id": task_id, "timeout_s": 20})
    assert words(result).startswith("destroy 1 as ")
    assert result.meta[CALL]["status"] == "done"
    assert len(service.workspace.ledger.effects("destroy")) == 1


async def test_a_rejection_reaches_the_model_with_its_reason(started):
    service = started()
    async with service.client() as client, service.admin() as admin:
        parked = await client.call_tool("ledger__destroy", {"n": 1})
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
        await admin.call_tool("reject", {"approval_id": approval["id"], "reason": "too\nlate"})
        result = await client.call_tool("holdfast__get_task", {"task_id": parked.meta[CALL]["id"]})
    assert result.is_error
    assert "too late" in words(result)


async def test_the_list_of_tasks_brings_results_along(started, era):
    async with started().client(era) as client:
        await client.call_tool("ledger__write", {"n": 1}, meta={"dev.holdfast/run": "r-1"})
        await client.call_tool("ledger__write", {"n": 2})
        listed = await client.call_tool("holdfast__list_tasks", {"run": "r-1"})
    (task,) = listed.structured_content["tasks"]
    assert task["status"] == "done"
    assert task["result"]["content"][0]["text"].startswith("write 1")


async def test_the_tasks_of_another_principal_are_as_good_as_none(started):
    people = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
    service = started(principals=people)
    async with service.client(token="token-of-ada") as ada, service.client(token="token-of-bob") as bob:
        task_id = (await ada.call_tool("ledger__write", {"n": 1})).meta[CALL]["id"]
        theirs = await bob.call_tool("holdfast__get_task", {"task_id": task_id})
        nobodys = await bob.call_tool("holdfast__get_task", {"task_id": "0" * 32})
        assert words(theirs).replace(task_id, "0" * 32) == words(nobodys)
        assert (await bob.call_tool("holdfast__list_tasks", {})).structured_content["tasks"] == []


async def test_with_principals_nobody_gets_in_without_a_token(started):
    service = started(principals=[{"id": "ada", "token": "token-of-ada"}])
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    async with httpx2.AsyncClient() as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await http.post(service.url, json=body, headers=headers)
            assert answer.status_code == 401


async def test_a_page_of_another_origin_is_refused(started):
    service = started()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(service.url, json=body, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


async def test_health_and_readiness_are_told(started):
    service = started()
    async with httpx2.AsyncClient() as http:
        assert (await http.get(service.root + "/healthz")).json() == {"status": "ok"}
        assert (await http.get(service.root + "/readyz")).status_code in (200, 503)


async def test_a_store_in_trouble_is_told_without_its_path(started):
    service = started()
    async with service.client() as client:
        await client.list_tools()
        with closing(sqlite3.connect(service.store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(MCPError, match="Nothing ran") as refused:
                await client.call_tool("ledger__write", {"n": 1})
    assert str(service.workspace.folder) not in str(refused.value)
    assert service.workspace.ledger.effects() == []
