"""`serve --http`: keys in headers, taking over from a detached engine, and what it refuses."""

import httpx2
import pytest
from asking import START_S, engine_pid, engines, gone, over_http, over_stdio, record, serve_http, until, words
from support.workspace import HOLDFAST

REFUSED = 2
PEOPLE = [
    {"id": "ada", "token": "token-of-ada"},
    {"id": "bob", "token": "token-of-bob"},
    {"id": "eve", "token": "token-of-eve", "roles": ["approver"]},
]


async def test_a_key_in_a_header_replays_for_its_own_principal_and_for_nobody_else(workspace, processes, era):
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, "principals": PEOPLE})
    _, url = serve_http(processes, workspace)
    key = {"Idempotency-Key": "k-1"}
    async with (
        over_http(url, era, token="token-of-ada", headers=key) as ada,
        over_http(url, era, token="token-of-bob", headers=key) as bob,
    ):
        first = await ada.call_tool("ledger__write", {"n": 1})
        again = await ada.call_tool("ledger__write", {"n": 1})
        other = await ada.call_tool("ledger__write", {"n": 2})
        bobs = await bob.call_tool("ledger__write", {"n": 1})
    assert record(again)["replayed"]
    assert words(again) == words(first)
    assert record(other)["code"] == "key_conflict"
    assert not record(bobs)["replayed"]
    assert [effect.arguments["n"] for effect in workspace.ledger.effects()] == [1, 1]


async def test_it_takes_over_from_a_detached_engine_with_what_is_parked_and_the_old_shim_goes_on(
    workspace, processes, operator, era
):
    workspace.write_config()
    async with over_stdio(workspace, era) as old:
        parked = record(await old.call_tool("ledger__destroy", {"n": 1}))
        detached = engine_pid(workspace)
        running, url = serve_http(processes, workspace)
        await until(lambda: gone(detached), "the end of the detached engine")
        assert engine_pid(workspace) == running.pid
        assert engines(workspace) == []

        async with over_http(url, era) as new:
            waiting = await new.call_tool("holdfast__get_task", {"task_id": parked["id"]})
            assert record(waiting)["status"] == "waiting_for_approval"
        assert words(await old.call_tool("ledger__write", {"n": 2})).startswith("write 2 as ")
        await operator.approve(parked["id"])
        result = await old.call_tool("holdfast__wait_task", {"task_id": parked["id"], "timeout_s": 20})
        assert words(result).startswith("destroy 1 as ")
        assert engine_pid(workspace) == running.pid
    assert len(workspace.ledger.effects()) == 2


def test_a_second_one_of_the_same_config_is_refused_and_names_the_first(workspace, processes):
    workspace.write_config()
    first, _ = serve_http(processes, workspace)
    second = workspace.run("serve", str(workspace.config), "--http", "127.0.0.1:0")
    assert second.returncode == REFUSED
    assert f"process {first.pid}, the http engine of" in second.stderr
    assert "stop it first" in second.stderr
    assert not first.exited()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_without_principals_it_listens_on_loopback_alone(workspace, host):
    workspace.write_config()
    refused = workspace.run("serve", str(workspace.config), "--http", f"{host}:0")
    assert refused.returncode == REFUSED
    assert "loopback" in refused.stderr
    assert "principals" in refused.stderr


async def test_with_principals_it_listens_elsewhere_and_asks_for_a_token_there(workspace, processes):
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, "principals": PEOPLE})
    command = [HOLDFAST, "serve", workspace.config, "--http", "0.0.0.0:0"]
    running = processes.start(command, environment=workspace.environment)
    port = running.wait_for(r"url=http://0\.0\.0\.0:(\d+)/mcp", START_S).group(1)
    url = f"http://127.0.0.1:{port}/mcp"
    async with httpx2.AsyncClient() as http:
        answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    assert answer.status_code == 401
    async with over_http(url, token="token-of-ada") as ada:
        assert words(await ada.call_tool("ledger__write", {"n": 1})).startswith("write 1 as ")
