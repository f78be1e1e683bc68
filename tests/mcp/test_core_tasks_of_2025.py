"""Core tasks of 2025-11-25, asked for through the SDK's legacy client mode."""

import asyncio
import re

from mcp import Client
from mcp.client.stdio import stdio_client
from mcp_types import _v2025_11_25 as wire
from task_clients import core_call, core_refusal, core_request, core_until

from holdfast_tools import sdk

RELATED = "io.modelcontextprotocol/related-task"
NOBODYS = "0" * 32


async def test_core_tasks_are_a_capability_of_the_connection(started):
    async with started().client("legacy") as client:
        tasks = client.server_capabilities.tasks
    assert tasks is not None
    assert tasks.model_dump(exclude_none=True) == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}


async def test_each_tool_says_whether_it_may_be_called_as_a_task(started):
    uses = {"write": "never", "destroy": "always", "slow": "required"}
    settings = {f"ledger__{name}": {"task": use} for name, use in uses.items()}
    async with started(tools=settings).client("legacy") as client:
        listed = (await client.list_tools()).tools
    support = {tool.name: tool.execution.task_support for tool in listed if tool.execution is not None}
    assert support == {
        "ledger__read": "optional",
        "ledger__fail": "optional",
        "ledger__break": "optional",
        "ledger__destroy": "optional",
        "ledger__slow": "required",
    }


async def test_a_call_as_a_task_is_answered_at_once_and_its_result_is_waited_for(started):
    async with started().client("legacy") as client:
        created = wire.CreateTaskResult.model_validate(
            await core_request(
                client, "tools/call", name="ledger__slow", arguments={"n": 1, "delay_ms": 600}, task={"ttl": 60_000}
            )
        )
        assert created.task.status == "working"
        assert created.task.ttl is None
        result = await core_request(client, "tasks/result", taskId=created.task.task_id)
        task = wire.GetTaskResult.model_validate(await core_request(client, "tasks/get", taskId=created.task.task_id))
    assert result["content"][0]["text"].startswith("slow 1 as ")
    assert result["_meta"][RELATED] == {"taskId": created.task.task_id}
    assert "resultType" not in result
    assert task.status == "completed"
    assert task.ttl > 29 * 86_400_000


async def test_a_read_as_a_task_is_kept_like_any_other(started):
    async with started().client("legacy") as client:
        task = await core_call(client, "ledger__read", {"n": 1})
        result = await core_request(client, "tasks/result", taskId=task["taskId"])
    assert result["content"][0]["text"] == "read 1"


async def test_a_call_without_a_task_is_answered_as_ever(started):
    async with started().client("legacy") as client:
        result = await client.call_tool("ledger__write", {"n": 1})
    assert result.content[0].text.startswith("write 1")


async def test_a_tool_error_is_a_failed_task_with_its_result_and_a_protocol_error_is_raised(started):
    async with started().client("legacy") as client:
        failed = await core_call(client, "ledger__fail", {"n": 1})
        broken = await core_call(client, "ledger__break", {"n": 1})
        result = await core_request(client, "tasks/result", taskId=failed["taskId"])
        code, _ = await core_refusal(client, "tasks/result", taskId=broken["taskId"])
        statuses = [(await core_request(client, "tasks/get", taskId=t["taskId"]))["status"] for t in (failed, broken)]
    assert result["isError"]
    assert code == -32603
    assert statuses == ["failed", "failed"]


async def test_the_result_of_a_parked_call_comes_when_a_person_has_approved_it(started):
    service = started()
    async with service.client("legacy") as client, service.admin() as admin:
        task = await core_call(client, "ledger__destroy", {"n": 1})
        assert task["status"] == "working"
        assert re.match(r"Waiting since 20\S+Z for the approval", task["statusMessage"])
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(core_request(client, "tasks/result", taskId=task["taskId"]))
            (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
            await admin.call_tool("approve", {"approval_id": approval["id"], "comment": "fine"})
    assert waiting.result()["content"][0]["text"].startswith("destroy 1")


async def test_a_rejection_is_a_failed_task_with_its_reason(started):
    service = started()
    async with service.client("legacy") as client, service.admin() as admin:
        task = await core_call(client, "ledger__destroy", {"n": 1})
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
        await admin.call_tool("reject", {"approval_id": approval["id"], "reason": "too late"})
        assert (await core_until(client, task["taskId"], "failed"))["statusMessage"] == "too late"
        result = await core_request(client, "tasks/result", taskId=task["taskId"])
    assert result["isError"]
    assert "too late" in result["content"][0]["text"]


async def test_what_a_tool_does_not_do_is_an_unknown_method(started):
    tools = {"ledger__write": {"task": "never"}, "ledger__slow": {"task": "required"}}
    service = started(tools=tools)
    async with service.client("legacy") as client:
        never, _ = await core_refusal(client, "tools/call", name="ledger__write", arguments={"n": 1}, task={})
        required, _ = await core_refusal(client, "tools/call", name="ledger__slow", arguments={"n": 1})
        malformed, _ = await core_refusal(client, "tools/call", name="ledger__read", arguments={"n": 1}, task=True)
    assert (never, required, malformed) == (-32601, -32601, -32602)
    assert service.workspace.ledger.effects() == []


async def test_a_task_is_cancelled_once(started):
    async with started().client("legacy") as client:
        task = await core_call(client, "ledger__destroy", {"n": 1})
        cancelled = wire.CancelTaskResult.model_validate(
            await core_request(client, "tasks/cancel", taskId=task["taskId"])
        )
        assert cancelled.status == "cancelled"
        code, message = await core_refusal(client, "tasks/cancel", taskId=task["taskId"])
    assert code == -32602
    assert "cancelled" in message


async def test_the_list_goes_page_by_page_through_the_callers_own(started):
    people = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
    service = started(principals=people)
    async with (
        service.client("legacy", token="token-of-ada") as ada,
        service.client("legacy", token="token-of-bob") as bob,
    ):
        await core_call(bob, "ledger__destroy", {"n": 0})
        made = [(await core_call(ada, "ledger__destroy", {"n": n}))["taskId"] for n in range(60)]
        first = wire.ListTasksResult.model_validate(await core_request(ada, "tasks/list"))
        second = wire.ListTasksResult.model_validate(await core_request(ada, "tasks/list", cursor=first.next_cursor))
        assert [task.task_id for task in (*first.tasks, *second.tasks)] == made[::-1]
        assert second.next_cursor is None
        assert (await core_refusal(ada, "tasks/list", cursor="made up"))[0] == -32602


async def test_the_task_of_another_principal_is_as_good_as_none(started):
    people = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
    service = started(principals=people)
    async with (
        service.client("legacy", token="token-of-ada") as ada,
        service.client("legacy", token="token-of-bob") as bob,
    ):
        task_id = (await core_call(ada, "ledger__destroy", {"n": 1}))["taskId"]
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            code, message = await core_refusal(bob, method, taskId=task_id)
            assert (code, message.replace(task_id, NOBODYS)) == await core_refusal(bob, method, taskId=NOBODYS)
            assert code == -32602


async def test_what_only_the_other_era_has_is_an_unknown_method(started):
    async with started().client("legacy") as client:
        assert (await core_refusal(client, "tasks/update", taskId=NOBODYS, inputResponses={}))[0] == -32601


async def test_a_task_outlives_the_engine_that_made_it(started):
    service = started()
    async with service.client("legacy") as client:
        done = (await core_call(client, "ledger__write", {"n": 1}))["taskId"]
        await core_until(client, done, "completed")
        parked = (await core_call(client, "ledger__destroy", {"n": 2}))["taskId"]
    service.running.kill()
    async with started().client("legacy") as client:
        result = await core_request(client, "tasks/result", taskId=done)
        assert (await core_request(client, "tasks/get", taskId=parked))["status"] == "working"
    assert result["content"][0]["text"].startswith("write 1")


async def test_a_task_over_stdio_outlives_its_client(workspace):
    workspace.write_config()
    async with Client(stdio_client(workspace.server()), mode="legacy") as client:
        assert client.server_capabilities.tasks is not None
        task = await core_call(client, "ledger__slow", {"n": 1, "delay_ms": 500})
    async with Client(stdio_client(workspace.server()), mode="legacy") as client:
        result = await core_request(client, "tasks/result", taskId=task["taskId"])
    assert result["content"][0]["text"].startswith("slow 1")
    assert len(workspace.ledger.effects("slow")) == 1


async def test_who_waits_for_the_result_of_a_task_is_told_what_for(started):
    service = started()
    heard = asyncio.Event()
    words = []

    async def hear(progress, total, message):
        words.append(message)
        heard.set()

    async with service.client("legacy") as client, service.admin() as admin, asyncio.timeout(20):
        task = await core_call(client, "ledger__destroy", {"n": 1})
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                sdk.request(client.session, "tasks/result", {"taskId": task["taskId"]}, on_progress=hear)
            )
            await heard.wait()
            (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
            await admin.call_tool("approve", {"approval_id": approval["id"], "comment": "fine"})
    assert re.match(r"Waiting since 20\S+Z for the approval", words[0])
    assert waiting.result()["content"][0]["text"].startswith("destroy 1")
