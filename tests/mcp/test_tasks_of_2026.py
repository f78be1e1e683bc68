"""The tasks extension of 2026-07-28: raw requests over HTTP and stdio, and every field of their answers."""

import asyncio
import re

import pytest
from task_clients import DEADLINE_S, TASKS, Refused, modern_lines, modern_posts

from holdfast_store.contract import Purge, Retention
from holdfast_store.open import open_store

CALL = "dev.holdfast/call"
NOBODYS = "0" * 32

SLOW = {"tools": {"ledger__slow": {"inline_wait": "200ms"}}}
ALWAYS = {"tools": {"ledger__*": {"task": "always"}}}

HANDLE = {"resultType", "taskId", "status", "statusMessage", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"}


@pytest.fixture
def asked(started):
    """A client of a service with these settings."""

    def ask(**settings):
        return modern_posts(started(**settings).url)

    return ask


async def refusal(request) -> Refused:
    with pytest.raises(Refused) as caught:
        await request
    return caught.value


async def test_the_extension_is_advertised_and_core_tasks_are_not(asked):
    async with asked() as client:
        capabilities = (await client.request("server/discover", {}))["capabilities"]
    assert capabilities["extensions"][TASKS] == {}
    assert "tasks" not in capabilities


async def test_a_call_that_outlasts_the_wait_becomes_a_task_that_brings_its_result(asked):
    async with asked(**SLOW) as client:
        created = await client.call("ledger__slow", {"n": 1, "delay_ms": 800})
        assert created.keys() - {"_meta"} == HANDLE
        assert (created["resultType"], created["status"], created["ttlMs"]) == ("task", "working", None)
        assert created["statusMessage"].startswith("Running since 20")
        task = await client.ended(created["taskId"])
    assert task["resultType"] == "complete"
    assert task["status"] == "completed"
    assert task["createdAt"] == created["createdAt"]
    assert task["ttlMs"] > 29 * 86_400_000
    assert re.match(r"slow 1 as ", task["result"]["content"][0]["text"])
    assert not task["result"].get("isError")
    assert task["result"]["_meta"][CALL]["status"] == "done"


async def test_a_quick_call_is_answered_with_its_result(asked):
    async with asked() as client:
        result = await client.call("ledger__write", {"n": 1})
    assert result["resultType"] == "complete"
    assert "taskId" not in result


async def test_a_client_that_does_not_declare_the_extension_gets_a_handle_in_words(asked):
    async with asked(**SLOW) as client:
        result = await client.call("ledger__slow", {"n": 1, "delay_ms": 800}, tasks=False)
    assert result["resultType"] == "complete"
    assert "taskId" not in result
    assert re.match(r"Still running: .* it has run since 20", result["content"][0]["text"])


async def test_a_parked_call_is_a_working_task_at_once_that_says_what_it_waits_for_and_since_when(started):
    service = started()
    async with modern_posts(service.url) as client, service.admin() as admin:
        created = await client.call("ledger__destroy", {"n": 1})
        assert (created["resultType"], created["status"]) == ("task", "working")
        assert re.match(r"Waiting since 20\S+Z for the approval of a person other than you", created["statusMessage"])
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
        assert approval["id"] not in str(created)
        await admin.call_tool("approve", {"approval_id": approval["id"], "comment": "fine"})
        task = await client.ended(created["taskId"])
    assert task["result"]["content"][0]["text"].startswith("destroy 1")


@pytest.mark.parametrize("verdict", ["reject", "expire"])
async def test_what_people_and_time_decide_is_a_completed_task_with_an_error_result(started, verdict):
    service = started(approval_defaults={"expires_in": "1s" if verdict == "expire" else "1h"})
    async with modern_posts(service.url) as client, service.admin() as admin:
        created = await client.call("ledger__destroy", {"n": 1})
        if verdict == "reject":
            (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
            await admin.call_tool("reject", {"approval_id": approval["id"], "reason": "too late"})
        task = await client.ended(created["taskId"])
    assert task["status"] == "completed"
    assert task["result"]["isError"]
    assert service.workspace.ledger.effects() == []


async def test_a_tool_error_is_a_completed_task_and_a_protocol_error_a_failed_one(asked):
    async with asked(**ALWAYS) as client:
        failed = await client.ended((await client.call("ledger__fail", {"n": 1}))["taskId"])
        broken = await client.ended((await client.call("ledger__break", {"n": 1}))["taskId"])
    assert (failed["status"], failed["result"]["isError"]) == ("completed", True)
    assert broken["status"] == "failed"
    assert isinstance(broken["error"]["code"], int)
    assert broken["error"]["message"]
    assert "result" not in broken


async def test_a_tool_that_always_makes_a_task_makes_one_of_a_read_too(asked):
    async with asked(**ALWAYS) as client:
        created = await client.call("ledger__read", {"n": 1})
        task = await client.ended(created["taskId"])
    assert created["resultType"] == "task"
    assert task["result"]["content"][0]["text"] == "read 1"


async def test_a_tool_that_never_makes_a_task_answers_in_words(asked):
    async with asked(tools={"ledger__slow": {"inline_wait": "200ms", "task": "never"}}) as client:
        result = await client.call("ledger__slow", {"n": 1, "delay_ms": 800})
    assert result["content"][0]["text"].startswith("Still running")


async def test_a_tool_that_requires_a_task_refuses_who_does_not_speak_of_them(started):
    service = started(tools={"ledger__write": {"task": "required"}})
    async with modern_posts(service.url) as client:
        refused = await refusal(client.call("ledger__write", {"n": 1}, tasks=False))
        created = await client.call("ledger__write", {"n": 2})
        await client.ended(created["taskId"])
    assert (refused.code, refused.status) == (-32021, 400)
    assert refused.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    assert [effect.arguments["n"] for effect in service.workspace.ledger.effects("write")] == [2]


async def test_requests_about_tasks_are_checked_for_the_extension_then_the_header_then_the_task(asked):
    async with asked() as client:
        for method, params in (("tasks/get", {}), ("tasks/update", {"inputResponses": {}}), ("tasks/cancel", {})):
            params["taskId"] = NOBODYS
            undeclared = await refusal(client.request(method, params, tasks=False, name="another"))
            misnamed = await refusal(client.request(method, params, name="another"))
            unknown = await refusal(client.request(method, params))
            assert [(found.code, found.status) for found in (undeclared, misnamed, unknown)] == [
                (-32021, 400),
                (-32020, 400),
                (-32602, 400),
            ]


async def test_what_only_the_other_era_has_is_an_unknown_method(asked):
    async with asked() as client:
        for method in ("tasks/result", "tasks/list"):
            refused = await refusal(client.request(method, {"taskId": NOBODYS}))
            assert (refused.code, refused.status) == (-32601, 404)


async def test_the_task_of_another_principal_is_as_good_as_none(started):
    service = started(principals=[{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}])
    async with modern_posts(service.url, "token-of-ada") as ada, modern_posts(service.url, "token-of-bob") as bob:
        task_id = (await ada.call("ledger__destroy", {"n": 1}))["taskId"]
        for method, params in (("tasks/get", {}), ("tasks/update", {"inputResponses": {}}), ("tasks/cancel", {})):
            theirs = await refusal(bob.request(method, {**params, "taskId": task_id}))
            nobodys = await refusal(bob.request(method, {**params, "taskId": NOBODYS}))
            assert (theirs.code, theirs.status) == (nobodys.code, nobodys.status)
            assert theirs.message.replace(task_id, NOBODYS) == nobodys.message
        assert (await ada.get(task_id))["status"] == "working"


async def test_a_cancel_is_acknowledged_with_nothing_however_often(asked):
    async with asked() as client:
        task_id = (await client.call("ledger__destroy", {"n": 1}))["taskId"]
        for _ in range(2):
            acknowledged = await client.request("tasks/cancel", {"taskId": task_id})
            assert acknowledged.keys() == {"resultType", "_meta"}
            assert (await client.get(task_id))["status"] == "cancelled"


async def test_a_cancel_of_what_was_sent_leaves_the_outcome_as_it_is(started):
    service = started(**SLOW)
    async with modern_posts(service.url) as client:
        task_id = (await client.call("ledger__slow", {"n": 1, "delay_ms": 800}))["taskId"]
        await client.request("tasks/cancel", {"taskId": task_id})
        assert "A cancel was asked for" in (await client.get(task_id))["statusMessage"]
        task = await client.ended(task_id)
    assert task["status"] == "completed"
    assert len(service.workspace.ledger.effects("slow")) == 1


async def test_a_read_is_cancelled_while_it_runs(asked):
    async with asked(**ALWAYS) as client:
        task_id = (await client.call("ledger__read", {"n": 1, "delay_ms": 30_000}))["taskId"]
        await client.request("tasks/cancel", {"taskId": task_id})
        assert (await client.ended(task_id))["status"] == "cancelled"


async def test_answers_that_nobody_asked_for_are_acknowledged_and_ignored(asked):
    async with asked() as client:
        task_id = (await client.call("ledger__destroy", {"n": 1}))["taskId"]
        answer = {"name": {"action": "accept", "content": {}}}
        acknowledged = await client.request("tasks/update", {"taskId": task_id, "inputResponses": answer})
        assert acknowledged.keys() == {"resultType", "_meta"}
        assert (await client.get(task_id))["status"] == "working"
        refused = await refusal(client.request("tasks/update", {"taskId": task_id}))
    assert refused.code == -32602


async def test_a_repeat_of_a_task_under_way_is_the_same_task(asked):
    async with asked(**ALWAYS) as client:
        first = await client.call(
            "ledger__slow",
            {"n": 1},
        )
        again = await client.request(
            "tools/call",
            {"name": "ledger__slow", "arguments": {"n": 1}, "_meta": {"dev.holdfast/idempotencyKey": "k"}},
        )
        same = await client.request(
            "tools/call",
            {"name": "ledger__slow", "arguments": {"n": 1}, "_meta": {"dev.holdfast/idempotencyKey": "k"}},
        )
    assert first["taskId"] != again["taskId"] == same["taskId"]
    assert same["_meta"][CALL]["joined"]


async def test_a_listener_is_told_of_each_change_of_its_own_tasks(started):
    people = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
    service = started(principals=people)
    async with modern_posts(service.url, "token-of-ada") as ada, modern_posts(service.url, "token-of-bob") as bob:
        mine = (await ada.call("ledger__destroy", {"n": 1}))["taskId"]
        theirs = (await bob.call("ledger__destroy", {"n": 2}))["taskId"]
        async with asyncio.timeout(DEADLINE_S), ada.listening(mine, theirs, NOBODYS) as messages:
            acknowledged = await anext(messages)
            assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
            assert acknowledged["params"]["notifications"] == {"taskIds": [mine]}
            await bob.request("tasks/cancel", {"taskId": theirs})
            await ada.request("tasks/cancel", {"taskId": mine})
            told = await anext(messages)
        assert told["method"] == "notifications/tasks"
        stamp = told["params"].pop("_meta")
        assert stamp["io.modelcontextprotocol/subscriptionId"] is not None
        shown = await ada.get(mine)
    assert told["params"]["status"] == "cancelled"
    assert told["params"] == {name: value for name, value in shown.items() if name not in ("resultType", "_meta")}


async def test_a_task_outlives_the_engine_that_made_it(started, processes):
    service = started(**ALWAYS)
    async with modern_posts(service.url) as client:
        done = (await client.call("ledger__write", {"n": 1}))["taskId"]
        await client.ended(done)
        running = (await client.call("ledger__slow", {"n": 2}))["taskId"]
        parked = (await client.call("ledger__destroy", {"n": 3}))["taskId"]
    service.running.kill()
    async with modern_posts(started(**ALWAYS).url) as client:
        assert (await client.get(done))["result"]["content"][0]["text"].startswith("write 1")
        assert (await client.get(parked))["status"] == "working"
        lost = await client.get(running)
    assert lost["status"] == "working"
    assert re.match(r"Outcome unknown since 20\S+Z", lost["statusMessage"])
    assert len(service.workspace.ledger.effects("slow")) == 1


async def test_a_task_over_stdio_outlives_its_client(workspace):
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, **ALWAYS})
    async with modern_lines(workspace) as client:
        discovered = await client.request("server/discover", {})
        assert TASKS in discovered["capabilities"]["extensions"]
        created = await client.request("tools/call", {"name": "ledger__write", "arguments": {"n": 1}})
        assert created["resultType"] == "task"
    async with modern_lines(workspace) as client:
        undeclared = await refusal(client.request("tasks/get", {"taskId": created["taskId"]}, tasks=False))
        assert undeclared.code == -32021
        task = await client.request("tasks/get", {"taskId": created["taskId"]})
        while task["status"] == "working":
            task = await client.request("tasks/get", {"taskId": created["taskId"]})
    assert task["result"]["content"][0]["text"].startswith("write 1")


async def test_a_task_whose_outcome_was_purged_says_that_it_expired(started):
    service = started(**ALWAYS)
    async with modern_posts(service.url) as client:
        task_id = (await client.call("ledger__write", {"n": 1}))["taskId"]
        await client.ended(task_id)
    service.running.end()
    (path,) = service.workspace.state_home.glob("holdfast/*/state.db")
    store = await open_store(f"sqlite://{path}")
    await store.commit((Purge(Retention(payload_s=0.0)),))
    await store.close()
    async with modern_posts(started(**ALWAYS).url) as client:
        refused = await refusal(client.get(task_id))
    assert refused.code == -32602
    assert re.match(r"Task expired: .* it ended as done at 20", refused.message)
