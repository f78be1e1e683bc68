"""The commands that need a living engine, with real ones: changes, doctor, and the engine's own."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from support.processes import Processes, alive, wait_until
from support.workspace import HOLDFAST, Workspace

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def served(workspace: Workspace) -> Workspace:
    """A workspace with a ledger downstream, an approver, and a server that cannot start."""
    workspace.write_config(
        {
            "mcpServers": {
                "ledger": workspace.ledger_downstream(),
                "broken": {"command": "/bin/sh", "args": ["-c", "echo no licence found >&2; exit 3"]},
            },
            "inline_wait": "1s",
            "principals": [{"id": "anna", "token": TOKEN, "roles": ["approver"]}],
        }
    )
    return workspace


def told(workspace: Workspace, *arguments: str, code: int = 0) -> Any:
    """The JSON that a command printed, which ended with `code`."""
    done = workspace.run(*arguments, "--json", timeout_s=60.0)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def config(workspace: Workspace) -> str:
    return str(workspace.config)


async def parked(workspace: Workspace) -> tuple[str, str]:
    """A call that waits for approval, as (call, approval)."""
    async with Client(workspace.server()) as client:
        await client.call_tool("ledger__destroy", {"n": 1})
    (approval,) = told(workspace, "approvals", "list", config(workspace))["approvals"]
    return approval["call_id"], approval["id"]


async def test_an_approved_call_runs_after_its_client_has_quit_and_stands_in_the_timeline(served: Workspace) -> None:
    call, approval = await parked(served)
    assert served.ledger.effects() == []
    decided = told(served, "approvals", "approve", config(served), approval, "--comment", "fine")
    assert decided["approval"]["status"] == "approved"
    wait_until(
        lambda: told(served, "calls", "show", config(served), call)["call"]["status"] == "done", 20.0, "the call"
    )
    assert len(served.ledger.effects()) == 1
    shown = served.run("calls", "show", config(served), call).stdout
    assert "approved, queued" in shown
    assert "by operator" in shown


async def test_a_verdict_bears_the_name_of_the_token_that_gave_it(served: Workspace) -> None:
    call, approval = await parked(served)
    served.environment["HOLDFAST_TOKEN"] = TOKEN
    rejected = told(served, "approvals", "reject", config(served), approval, "--reason", "not today")
    assert rejected["approval"]["verdicts"][0]["principal"] == "anna"
    assert rejected["call"]["status"] == "failed"
    again = served.run("approvals", "approve", config(served), approval)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "rejected: not today" in served.run("calls", "show", config(served), call).stdout


async def test_a_change_starts_the_engine_that_it_needs(served: Workspace) -> None:
    call, _ = await parked(served)
    told(served, "engine", "stop", config(served))
    assert told(served, "engine", "status", config(served), code=1) == {"running": False}
    assert told(served, "calls", "cancel", config(served), call)["call"]["status"] == "cancelled"
    assert told(served, "engine", "status", config(served))["running"] is True


async def test_a_call_in_doubt_is_resolved_by_what_a_person_found_out(served: Workspace) -> None:
    async with Client(served.server()) as client:
        await client.call_tool("ledger__slow", {"n": 1, "delay_ms": 60_000})
    (call,) = told(served, "calls", "list", config(served), "--status", "running")["calls"]
    engine = told(served, "engine", "status", config(served))["engine"]["pid"]
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: not alive(engine), 10.0, "the engine's end")
    told(served, "engine", "restart", config(served))
    assert told(served, "calls", "show", config(served), call["id"])["call"]["status"] == "in_doubt"
    refused = served.run("calls", "resolve", config(served), call["id"], "--outcome", "failed", "--reason", "")
    assert refused.returncode == 2
    resolved = told(
        served, "calls", "resolve", config(served), call["id"], "--outcome", "failed", "--reason", "not in the books"
    )
    assert resolved["call"]["status"] == "failed"
    assert "resolved: it failed" in served.run("calls", "show", config(served), call["id"]).stdout


async def test_doctor_shows_a_living_engine_and_the_last_words_of_a_server_that_cannot_start(served: Workspace) -> None:
    async with Client(served.server()) as client:
        await client.list_tools()

    def broken() -> list[dict[str, str]]:
        findings = told(served, "doctor", config(served), code=1)["findings"]
        return [f for f in findings if f["about"] == "server broken" and f["level"] == "problem"]

    wait_until(lambda: bool(broken()), 20.0, "the failed server in doctor")
    assert "no licence found" in broken()[0]["text"]
    findings = told(served, "doctor", config(served), code=1)["findings"]
    assert any(f["about"] == "engine" and "detached" in f["text"] for f in findings)
    assert any(f["about"] == "server ledger" and f["text"].startswith("connected to ledger") for f in findings)
    assert any(
        f["about"] == "calls to ledger" and "0 of 128 places taken, 0 of 1024 queued" in f["text"] for f in findings
    )
    assert any(
        f["level"] == "warning" and "the token of 'anna' stands in the file itself" in f["text"] for f in findings
    )


def test_restart_gives_a_new_engine_and_refuses_a_config_that_is_broken(served: Workspace) -> None:
    first = told(served, "engine", "restart", config(served))["pid"]
    second = told(served, "engine", "restart", config(served))["pid"]
    assert first != second
    assert not alive(first)
    served.config.write_text("mcpServers: {a: {comand: x}}")
    refused = served.run("engine", "restart", config(served))
    assert refused.returncode == 2
    assert "did you mean 'command'?" in refused.stderr
    assert alive(second)


def test_a_wrong_token_is_refused_with_code_3(served: Workspace) -> None:
    told(served, "engine", "restart", config(served))
    served.environment["HOLDFAST_TOKEN"] = "somebody-elses-token"
    done = served.run("calls", "cancel", config(served), "any")
    assert done.returncode == 3
    assert "HOLDFAST_TOKEN" in done.stderr


def test_what_is_not_there_cannot_be_changed(served: Workspace) -> None:
    done = served.run("calls", "cancel", config(served), "none")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")


def test_a_config_that_cannot_be_used_starts_no_engine_and_ends_with_code_2(served: Workspace) -> None:
    served.config.write_text("mcpServers: {a: {comand: x}}")
    done = served.run("calls", "cancel", config(served), "any")
    assert done.returncode == 2
    assert "did you mean 'command'?" in done.stderr


def test_logs_follow_until_ctrl_c_and_leave_cleanly(served: Workspace, processes: Processes) -> None:
    told(served, "engine", "restart", config(served))
    assert told(served, "engine", "logs", config(served))["lines"]
    following = processes.start(
        [HOLDFAST, "engine", "logs", config(served), "--follow"], environment=served.environment, cwd=served.folder
    )
    following.wait_for("ready", 20.0)
    os.kill(following.pid, signal.SIGINT)
    assert following.wait(10.0) == 130
    assert "Traceback" not in following.stderr


def test_an_engine_in_the_foreground_is_not_restarted_behind_its_owners_back(
    served: Workspace, processes: Processes
) -> None:
    running = processes.start(
        [HOLDFAST, "serve", config(served), "--http", "127.0.0.1:0"], environment=served.environment, cwd=served.folder
    )
    running.wait_for(r"http://127\.0\.0\.1:\d+/mcp", 30.0)
    refused = served.run("engine", "restart", config(served))
    assert refused.returncode == 1
    assert "runs in the foreground" in refused.stderr
    assert told(served, "engine", "status", config(served))["engine"]["mode"] == "http"
    told(served, "engine", "stop", config(served))
    assert running.wait(20.0) == 0


async def test_in_process_serves_on_its_own_stdio(served: Workspace) -> None:
    server = served.server("--in-process")
    assert isinstance(server, StdioServerParameters)
    async with Client(server) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert "ledger__read" in names


def test_a_reader_that_goes_away_is_no_error(served: Workspace) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [HOLDFAST, "config", "check", config(served)],
            env=served.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
