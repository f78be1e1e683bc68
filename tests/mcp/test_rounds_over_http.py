"""Rounds of input as clients of both eras see them: the questions as the server wrote them, and honest refusals."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from support.processes import Processes

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0
ASK_NAME = "fixture__test_input_required_result_elicitation"
ENUMS = "fixture__test_elicitation_sep1330_enums"

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


@pytest.fixture
def service(started, processes: Processes):
    """`serve --http` in front of the downstream that asks."""
    command = [sys.executable, "-m", "conformance.fixture"]
    running = processes.start(command, environment={**os.environ, "PYTHONPATH": str(TESTS)})
    url = running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)
    rules = [{"id": "all", "effect": "allow"}]
    return started(mcpServers={"fixture": {"url": url}}, rules=rules, inline_wait="20s")


async def accept(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Zoë"})


async def post(service: Any, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """One raw `tools/call` of the stateless era: its HTTP status, and the JSON-RPC answer."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": meta}}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": params["name"],
    }
    async with httpx2.AsyncClient(timeout=30) as http:
        response = await http.post(service.url, json=body, headers=headers)
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")][-1]
    return response.status_code, json.loads(text)


async def test_a_client_of_either_era_that_can_be_asked_gets_its_result(service, era):
    async with service.client(era, elicitation_callback=accept) as client:
        result = await client.call_tool(ASK_NAME, {})
        assert result.content[0].text == "Hello, Zoë!"


async def test_a_question_reaches_an_older_client_with_its_schema_untouched(service):
    schemas = []

    async def look(context: Any, params: Any) -> types.ElicitResult:
        schemas.append(params.requested_schema)
        return types.ElicitResult(action="decline")

    async with service.client("legacy", elicitation_callback=look) as client:
        await client.call_tool(ENUMS, {})
    _, direct = await post(service, {"name": ENUMS, "arguments": {}})
    ((request),) = direct["result"]["inputRequests"].values()
    assert schemas == [request["params"]["requestedSchema"]]
    assert schemas[0]["properties"]["legacyEnum"]["enumNames"] == ["Option One", "Option Two"]


async def test_an_older_client_that_refuses_reads_why_the_call_ended(service):
    async def refuse(context: Any, params: Any) -> types.ErrorData:
        return types.ErrorData(code=-1, message="no thanks")

    async with service.client("legacy", elicitation_callback=refuse) as client:
        result = await client.call_tool(ASK_NAME, {})
        assert result.is_error
        assert "no thanks" in result.content[0].text


async def test_a_state_that_was_altered_or_used_before_is_an_error_of_the_protocol(service):
    first = {"name": ASK_NAME, "arguments": {}}
    status, asked = await post(service, first)
    assert (status, asked["result"]["resultType"]) == (200, "input_required")
    answers = {"user_name": {"action": "accept", "content": {"name": "Zoë"}}}
    again = {**first, "inputResponses": answers, "requestState": asked["result"]["requestState"]}
    status, refused = await post(service, {**again, "requestState": again["requestState"] + "-TAMPERED"})
    assert (status, refused["error"]["code"]) == (400, -32602)
    assert refused["error"]["data"] == {"reason": "invalid_request_state"}
    status, done = await post(service, again)
    assert done["result"]["content"][0]["text"] == "Hello, Zoë!"
    status, refused = await post(service, again)
    assert (status, refused["error"]["data"]) == (400, {"reason": "invalid_request_state"})


@pytest.mark.parametrize(
    "brought",
    [{"inputResponses": {"user_name": 12345}}, {"inputResponses": [1]}, {"requestState": 7}],
    ids=["an answer that is no object", "no object of answers", "a state that is no string"],
)
async def test_what_is_not_of_the_right_shape_is_refused(service, brought):
    status, refused = await post(service, {"name": ASK_NAME, "arguments": {}, **brought})
    assert (status, refused["error"]["code"]) == (400, -32602)


async def test_null_counts_as_nothing_brought(service):
    brought = {"inputResponses": None, "requestState": None}
    status, asked = await post(service, {"name": ASK_NAME, "arguments": {}, **brought})
    assert (status, asked["result"]["resultType"]) == (200, "input_required")
