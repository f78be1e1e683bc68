"""The admin endpoint: who gets in, and what its tools answer."""

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

CALL = "dev.holdfast/call"

ADMIN_TOOLS = {
    "list_approvals",
    "get_approval",
    "approve",
    "reject",
    "list_calls",
    "get_call",
    "resume_call",
    "cancel_call",
    "resolve_call",
    "engine_reload",
    "engine_status",
    "engine_stop",
}


async def test_the_admin_tools_stand_at_the_admin_endpoint_alone(started):
    service = started()
    async with service.client() as agent, service.admin() as admin:
        assert {tool.name for tool in (await admin.list_tools()).tools} == ADMIN_TOOLS
        assert not ADMIN_TOOLS & {tool.name for tool in (await agent.list_tools()).tools}
        for name in ADMIN_TOOLS:
            with pytest.raises(MCPError, match="no tool"):
                await agent.call_tool(name, {})


async def test_without_a_token_nobody_is_an_admin(started):
    service = started()
    async with httpx2.AsyncClient() as http:
        answer = await http.post(service.root + "/admin/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert answer.status_code == 401


async def test_a_principal_without_an_approving_role_is_no_admin(started):
    people = [{"id": "ada", "token": "token-of-ada"}, {"id": "eve", "token": "token-of-eve", "roles": ["approver"]}]
    service = started(principals=people)
    async with service.admin("token-of-ada") as ada:
        with pytest.raises(MCPError, match="role"):
            await ada.list_tools()
    async with service.admin("token-of-eve") as eve:
        assert (await eve.call_tool("list_approvals", {})).structured_content == {"approvals": []}


async def test_an_approver_cannot_approve_what_it_asked_for_itself(started):
    service = started(principals=[{"id": "eve", "token": "token-of-eve", "roles": ["approver"]}])
    async with service.client(token="token-of-eve") as agent, service.admin("token-of-eve") as admin:
        await agent.call_tool("ledger__destroy", {"n": 1})
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
        result = await admin.call_tool("approve", {"approval_id": approval["id"]})
    assert result.is_error
    assert result.structured_content["error"]["code"] == "wrong_state"
    assert service.workspace.ledger.effects() == []


async def test_an_approver_of_another_tenant_sees_and_decides_nothing(started):
    people = [
        {"id": "ada", "token": "token-of-ada", "tenant": "acme"},
        {"id": "eve", "token": "token-of-eve", "tenant": "globex", "roles": ["approver"]},
        {"id": "abe", "token": "token-of-abe", "tenant": "acme", "roles": ["approver"]},
    ]
    service = started(principals=people)
    async with service.client(token="token-of-ada") as agent:
        task_id = (await agent.call_tool("ledger__destroy", {"n": 1})).meta[CALL]["id"]
    async with service.admin() as admin:
        (approval,) = (await admin.call_tool("list_approvals", {})).structured_content["approvals"]
    async with service.admin("token-of-eve") as eve:
        assert (await eve.call_tool("list_approvals", {})).structured_content == {"approvals": []}
        assert (await eve.call_tool("list_calls", {})).structured_content == {"calls": []}
        for tool, arguments in (
            ("get_approval", {"approval_id": approval["id"]}),
            ("approve", {"approval_id": approval["id"]}),
            ("get_call", {"call_id": task_id}),
            ("cancel_call", {"call_id": task_id}),
        ):
            result = await eve.call_tool(tool, arguments)
            assert result.structured_content["error"]["code"] == "not_found"
    async with service.admin("token-of-abe") as abe:
        assert len((await abe.call_tool("list_approvals", {})).structured_content["approvals"]) == 1
        assert not (await abe.call_tool("approve", {"approval_id": approval["id"]})).is_error


async def test_a_call_is_shown_with_its_timeline(started):
    service = started()
    async with service.client() as agent, service.admin() as admin:
        call_id = (await agent.call_tool("ledger__write", {"n": 1})).meta[CALL]["id"]
        shown = (await admin.call_tool("get_call", {"call_id": call_id})).structured_content
        assert shown["call"]["status"] == "done"
        assert [entry["event"] for entry in shown["timeline"]] == ["start", "settle"]
        assert all(entry["at"].endswith("Z") for entry in shown["timeline"])


async def test_calls_are_listed_in_pages(started):
    service = started()
    async with service.client() as agent, service.admin() as admin:
        for n in range(3):
            await agent.call_tool("ledger__write", {"n": n})
        first = (await admin.call_tool("list_calls", {"limit": 2})).structured_content
        assert [call["arguments"]["n"] for call in first["calls"]] == [2, 1]
        rest = (await admin.call_tool("list_calls", {"limit": 2, "cursor": first["cursor"]})).structured_content
        assert [call["arguments"]["n"] for call in rest["calls"]] == [0]
        assert "cursor" not in rest


async def test_a_wrong_argument_of_an_admin_tool_is_told_by_pointer(started):
    async with started().admin() as admin:
        result = await admin.call_tool("get_call", {"id": "x"})
        assert result.is_error
        assert "call_id" in result.structured_content["error"]["message"]


async def test_a_made_up_cursor_is_refused(started):
    async with started().admin() as admin:
        result = await admin.call_tool("list_calls", {"cursor": "made-up"})
        assert result.is_error


async def test_the_engine_tells_how_it_is(started):
    service = started()
    async with service.client() as agent, service.admin() as admin:
        await agent.list_tools()
        status = (await admin.call_tool("engine_status", {})).structured_content
    (downstream,) = status["downstreams"]
    assert downstream["state"] == "connected"
    assert status["engine"]["mode"] == "http"
    assert status["set_aside"] == []


async def test_an_admin_stops_the_engine(started):
    service = started()
    async with service.admin() as admin:
        assert (await admin.call_tool("engine_stop", {"drain_s": 0})).structured_content["stopping"]
    assert service.running.wait(15) == 0
