"""Tasks whose downstream asks the requester something, in both dialects, with and without tasks of its own."""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import INVALID_PARAMS, ElicitResult
from support.processes import Processes
from support.workspace import HOLDFAST, Workspace
from task_clients import DEADLINE_S, Refused, core_call, core_request, core_until, modern_posts

START_S = 30.0

TASK_SETTINGS = {"fixture__confirm_delete": {"task": "always"}, "fixture__multi_input": {"task": "always"}}


def accepted(**content):
    return {"action": "accept", "content": content}


@pytest.fixture
def fixture_url(processes: Processes):
    """Start the conformance fixture: with tasks of its own, or without."""

    def start(*options: str) -> str:
        environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        command = [sys.executable, "-m", "conformance.fixture", *options]
        running = processes.start(command, environment=environment)
        return running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)

    return start


@pytest.fixture
def in_front(workspace: Workspace, processes: Processes):
    """Start `serve --http` in front of a downstream; the process and its URL."""

    def start(url: str):
        workspace.write_config(
            {
                "mcpServers": {"fixture": {"url": url}},
                "rules": [{"id": "allow-all", "effect": "allow"}],
                "tools": TASK_SETTINGS,
            }
        )
        command = [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0"]
        running = processes.start(command, environment=workspace.environment)
        return running, running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)

    return start


@pytest.fixture(params=([], ["--without-tasks"]), ids=("a downstream with tasks", "a downstream without"))
def options(request):
    return request.param


async def test_a_task_asks_and_takes_its_answers_one_by_one(fixture_url, in_front, options):
    _, url = in_front(fixture_url(*options))
    async with modern_posts(url, elicitation=True) as client:
        created = await client.call("fixture__multi_input", {})
        asking = await client.until(created["taskId"], "input_required", "completed")
        (first,) = [key for key in asking["inputRequests"] if key.endswith("first")]
        (second,) = [key for key in asking["inputRequests"] if key.endswith("second")]
        assert asking["inputRequests"][first]["method"] == "elicitation/create"
        assert asking["statusMessage"].startswith("Waiting since 20")
        with pytest.raises(Refused) as refused:
            await _answer(client, created, {first: "Ada"})
        assert refused.value.code == INVALID_PARAMS
        assert (await client.get(created["taskId"]))["inputRequests"] == asking["inputRequests"]
        await _answer(client, created, {first: accepted(name="Ada"), "never asked": accepted()})
        left = await client.get(created["taskId"])
        assert (left["status"], left["inputRequests"].keys()) == ("input_required", {second})
        await _answer(client, created, {first: accepted(name="Eve")})
        await _answer(client, created, {second: accepted(name="Bob")})
        task = await client.ended(created["taskId"])
        await _answer(client, created, {second: accepted(name="Eve")})
    assert task["result"]["content"][0]["text"] == "Ada and Bob"


async def test_what_a_task_asks_survives_the_engine_that_was_asked(fixture_url, in_front, options):
    downstream = fixture_url(*options)
    running, url = in_front(downstream)
    async with modern_posts(url, elicitation=True) as client:
        task_id = (await client.call("fixture__confirm_delete", {"filename": "a.txt"}))["taskId"]
        asked = (await client.until(task_id, "input_required"))["inputRequests"]
    running.kill()
    _, url = in_front(downstream)
    async with modern_posts(url, elicitation=True) as client:
        assert (await client.get(task_id))["inputRequests"] == asked
        (key,) = asked
        await _answer(client, {"taskId": task_id}, {key: accepted(confirm=True)})
        task = await client.ended(task_id)
    assert task["result"]["content"][0]["text"] == "a.txt: deleted"


async def test_a_client_of_2025_is_asked_while_it_waits_for_the_result_of_its_task(fixture_url, in_front, options):
    _, url = in_front(fixture_url(*options))
    asked = asyncio.Queue()

    async def elicit(context, params):
        await asked.put(params)
        return ElicitResult(action="accept", content={"confirm": True})

    async with (
        asyncio.timeout(DEADLINE_S),
        httpx2.AsyncClient(timeout=DEADLINE_S) as http,
        Client(
            streamable_http_client(url, http_client=http), mode="legacy", cache=None, elicitation_callback=elicit
        ) as client,
    ):
        task = await core_call(client, "fixture__confirm_delete", {"filename": "a.txt"})
        await core_until(client, task["taskId"], "input_required")
        result = await core_request(client, "tasks/result", taskId=task["taskId"])
        question = await asked.get()
    assert question.message == "Delete a.txt?"
    assert question.meta["io.modelcontextprotocol/related-task"] == {"taskId": task["taskId"]}
    assert result["content"][0]["text"] == "a.txt: deleted"


async def _answer(client, task, responses):
    await client.request("tasks/update", {"taskId": task["taskId"], "inputResponses": responses})
