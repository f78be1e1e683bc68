"""What an engine leaves on disk: for its user alone, its token to the command line, and no secret in its log."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from asking import engine_pid, kill, over_http, over_stdio, record, serve_http, words
from mcp.shared.exceptions import MCPError
from support.workspace import Workspace

TOKEN = "token-of-ada-0123456789"
ENVIRONMENT_SECRET = "hunter2-of-the-environment"
ARGUMENT_SECRET = "hunter2-of-the-arguments"


def secretive(workspace: Workspace) -> dict[str, Any]:
    """A ledger downstream with a secret in its environment, and a principal with a token."""
    ledger = workspace.ledger_downstream()
    ledger["env"]["LEDGER_PASSWORD"] = ENVIRONMENT_SECRET
    crashing = {"command": "sh", "args": ["-c", "echo password is $PASSWORD >&2; exit 3"]}
    crashing["env"] = {"PASSWORD": ENVIRONMENT_SECRET}
    people = [{"id": "ada", "token": TOKEN, "roles": ["approver"]}]
    return {"mcpServers": {"ledger": ledger, "crashing": crashing}, "principals": people}


async def much_happens(workspace: Workspace) -> Path:
    """Reads, writes, refusals, a parked call, a downstream and an engine that die; the state folder after that."""
    async with over_stdio(workspace) as client:
        await client.call_tool("ledger__read", {"n": 1})
        await client.call_tool("ledger__write", {"n": 2, "ref": ARGUMENT_SECRET})
        assert (await client.call_tool("ledger__write", {"n": ARGUMENT_SECRET})).is_error
        assert (await client.call_tool("crashing__anything", {"n": 3})).is_error
        await client.call_tool("ledger__destroy", {"n": 4})
        await kill(workspace.ledger.effects()[0].pid)
        await client.call_tool("ledger__write", {"n": 5})
        await kill(engine_pid(workspace))
        assert (await client.call_tool("ledger__fail", {"n": 6})).is_error
        (folder,) = workspace.state_home.glob("holdfast/*")
    return folder


async def test_every_file_of_the_state_folder_is_its_users_alone_whatever_the_umask(workspace):
    workspace.write_config(secretive(workspace))
    umask = os.umask(0)
    try:
        folder = await much_happens(workspace)
    finally:
        os.umask(umask)
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {path.name for path in found} >= {"engine.lock", "engine.log", "admin.token", "engine.sock", "state.db"}
    assert {path.name: oct(mode) for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


async def test_the_log_tells_what_happened_and_nobodys_secrets(workspace, processes):
    workspace.write_config(secretive(workspace))
    folder = await much_happens(workspace)
    running, url = serve_http(processes, workspace)
    async with over_http(url, token=TOKEN) as client:
        await client.call_tool("ledger__write", {"n": 7, "ref": ARGUMENT_SECRET})
    with pytest.raises(BaseExceptionGroup):
        async with over_http(url, token=f"not-{TOKEN}") as nobody:
            await nobody.list_tools()
    running.end()
    admin_token = (folder / "admin.token").read_text().strip()
    for log in ((folder / "engine.log").read_text(), running.stderr):
        assert "ledger: connected" in log
        for secret in (TOKEN, admin_token, ENVIRONMENT_SECRET, ARGUMENT_SECRET):
            assert secret not in log


async def test_the_commands_of_the_engines_user_decide_with_its_token_and_an_agent_cannot(workspace):
    workspace.write_config()
    config = str(workspace.config)
    async with over_stdio(workspace) as client:
        parked = record(await client.call_tool("ledger__destroy", {"n": 1}))
        (approval,) = json.loads(workspace.run("approvals", "list", config, "--json").stdout)["approvals"]
        assert approval["call_id"] == parked["id"]
        with pytest.raises(MCPError):
            await client.call_tool("approve", {"approval_id": approval["id"]})

        workspace.environment["HOLDFAST_TOKEN"] = "a-wrong-one"
        refused = workspace.run("approvals", "approve", config, approval["id"])
        assert refused.returncode != 0
        assert "token" in refused.stderr
        assert workspace.ledger.effects() == []

        del workspace.environment["HOLDFAST_TOKEN"]
        approved = workspace.run("approvals", "approve", config, approval["id"], "--comment", "fine")
        assert approved.returncode == 0, approved.stderr
        result = await client.call_tool("holdfast__wait_task", {"task_id": parked["id"], "timeout_s": 20})
    assert words(result).startswith("destroy 1 as ")
