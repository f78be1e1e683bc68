"""A detached engine ends by itself once nobody needs it, and the next one is there when somebody does."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asking import DEADLINE_S, engine_pid, engines, serve_http
from raw_client import RawClient, park, raw_client, told, until_gone
from support.processes import Processes, alive, wait_until
from support.workspace import Workspace

SOON = "200ms"
NEVER = "1h"
ROUNDS = 6


def configure(workspace: Workspace, idle_exit: str = SOON, **settings: Any) -> None:
    ledger = {"mcpServers": {"ledger": workspace.ledger_downstream()}}
    workspace.write_config({**ledger, "engine": {"idle_exit": idle_exit}, **settings})


def log_of(workspace: Workspace) -> str:
    (log,) = workspace.state_home.glob("holdfast/*/engine.log")
    return log.read_text()


def test_an_engine_that_nobody_needs_ends_in_good_order_and_leaves_nothing_running(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        pid = engine_pid(workspace)
        assert client.leave() == 0
    until_gone(pid)
    wait_until(lambda: workspace.processes() == [], DEADLINE_S, "the end of what the engine had started")
    log = log_of(workspace)
    assert "nobody is connected and nothing can run" in log
    assert "stopped" in log.splitlines()[-1]
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=2)["content"][0]["text"].startswith("write 2")
        assert engine_pid(workspace) != pid


def test_a_client_that_says_nothing_keeps_its_engine(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as silent:
        silent.ask("tools/list")
        pid = engine_pid(workspace)
        another_engine_has_ended(workspace)
        assert alive(pid)
        assert silent.call("ledger__read", n=1)


def another_engine_has_ended(workspace: Workspace) -> None:
    """Start an engine of another config of the same patience, and see it end."""
    other = Workspace(workspace.folder / "beside")
    other.folder.mkdir()
    configure(other)
    try:
        with raw_client(other) as brief:
            brief.ask("tools/list")
            pid = engine_pid(other)
        until_gone(pid)
    finally:
        other.end_all()


def test_a_call_under_way_is_finished_before_the_engine_ends_though_its_client_is_gone(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        client.send("tools/call", name="ledger__write", arguments={"n": 1, "delay_ms": 1500})
        wait_until(lambda: workspace.ledger.effects() != [], DEADLINE_S, "the effect")
        pid = engine_pid(workspace)
        os.kill(client.process.pid, signal.SIGKILL)
    until_gone(pid)
    assert [effect.done for effect in workspace.ledger.effects()] == [True]
    (call,) = told(workspace, "calls", "list", str(workspace.config))["calls"]
    assert call["status"] == "done"
    assert engines(workspace) == []


def test_a_write_in_doubt_whose_answer_may_still_come_keeps_the_engine(workspace: Workspace) -> None:
    configure(workspace, tools={"ledger__write": {"timeout": "200ms"}})
    with raw_client(workspace) as client:
        result = client.call("ledger__write", n=1, delay_ms=2000)
        assert result["_meta"]["dev.holdfast/call"]["status"] == "in_doubt"
        pid = engine_pid(workspace)
        client.leave()
    until_gone(pid)
    (call,) = told(workspace, "calls", "list", str(workspace.config))["calls"]
    assert call["status"] == "done"


def test_a_queued_call_keeps_the_engine_until_its_server_is_there(workspace: Workspace) -> None:
    gate, server = workspace.folder / "gate", workspace.ledger_downstream()
    held = ["-c", 'test -e "$0" || exit 1; exec "$@"', str(gate), server["command"], *server["args"]]
    gate.touch()
    workspace.write_config(
        {"mcpServers": {"ledger": {**server, "command": "sh", "args": held}}, "engine": {"idle_exit": SOON}}
    )
    with raw_client(workspace) as client:
        client.ask("tools/list")
        pid = engine_pid(workspace)
    until_gone(pid)
    gate.unlink()
    with raw_client(workspace) as client:
        pid = park_and_approve(workspace, client)
    gate.touch()
    until_gone(pid)
    assert [effect.done for effect in workspace.ledger.effects()] == [True]


def park_and_approve(workspace: Workspace, client: RawClient) -> int:
    """Queue a call for a server that is down; the engine that has it."""
    park(client, 1)
    (approval,) = told(workspace, "approvals", "list", str(workspace.config))["approvals"]
    approved = told(workspace, "approvals", "approve", str(workspace.config), approval["id"])
    assert approved["call"]["status"] == "queued"
    return engine_pid(workspace)


def test_a_parked_call_does_not_keep_the_engine_and_a_verdict_starts_one_that_runs_it(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        call = park(client, 1)
        pid = engine_pid(workspace)
    until_gone(pid)
    (approval,) = told(workspace, "approvals", "list", str(workspace.config))["approvals"]
    assert engines(workspace) == [], "reading starts none"
    told(workspace, "approvals", "approve", str(workspace.config), approval["id"])
    wait_until(lambda: [e.done for e in workspace.ledger.effects()] == [True], DEADLINE_S, "the approved effect")
    wait_until(lambda: engines(workspace) == [], DEADLINE_S, "the end of the engine that the verdict started")
    assert told(workspace, "calls", "show", str(workspace.config), call)["call"]["status"] == "done"


@pytest.mark.parametrize("command", ["approve", "reject", "cancel"])
def test_every_command_that_changes_a_call_starts_an_engine(workspace: Workspace, command: str) -> None:
    configure(workspace)
    config = str(workspace.config)
    with raw_client(workspace) as client:
        call = park(client, 1)
        pid = engine_pid(workspace)
    until_gone(pid)
    (approval,) = told(workspace, "approvals", "list", config)["approvals"]
    changed = {
        "approve": ("approvals", "approve", config, approval["id"]),
        "reject": ("approvals", "reject", config, approval["id"], "--reason", "no"),
        "cancel": ("calls", "cancel", config, call),
    }[command]
    assert told(workspace, *changed)["call"]["status"] != "waiting_for_approval"


def test_what_expired_while_no_engine_lived_has_expired_when_the_next_one_serves(workspace: Workspace) -> None:
    configure(workspace, approval_defaults={"expires_in": "1s"})
    with raw_client(workspace) as client:
        call = park(client, 1)
        pid = engine_pid(workspace)
    until_gone(pid)
    (approval,) = told(workspace, "approvals", "list", str(workspace.config), "--status", "all")["approvals"]
    expires_at = approval["expires_at"]
    wait_until(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > expires_at, DEADLINE_S, "the expiry")
    late = workspace.run("approvals", "approve", str(workspace.config), approval["id"])
    assert late.returncode != 0
    assert "expired" in late.stderr
    assert workspace.ledger.effects() == []
    with raw_client(workspace) as client:
        shown = client.call("holdfast__get_task", task_id=call)
    assert shown["_meta"]["dev.holdfast/call"]["status"] == "failed"


def test_who_comes_while_the_engine_ends_is_served_every_time(workspace: Workspace) -> None:
    configure(workspace, idle_exit="1ms")

    def visit(n: int) -> int:
        with raw_client(workspace) as client:
            assert client.call("ledger__read", n=n)["content"][0]["text"] == f"read {n}"
            pid = engine_pid(workspace)
            assert client.leave() == 0
            assert client.stderr == ""
        return pid

    with ThreadPoolExecutor(2) as pool:
        pids = {pid for _ in range(ROUNDS) for pid in pool.map(visit, range(2))}
    assert len(pids) > 1, "no engine ended between two clients"


def test_a_reload_takes_another_patience_at_once(workspace: Workspace) -> None:
    configure(workspace, idle_exit=NEVER)
    with raw_client(workspace) as client:
        client.ask("tools/list")
        pid = engine_pid(workspace)
    configure(workspace)
    assert told(workspace, "config", "reload", str(workspace.config))["settings"] == ["engine.idle_exit"]
    until_gone(pid)


def test_an_engine_in_the_foreground_stays(workspace: Workspace, processes: Processes) -> None:
    configure(workspace)
    running, _ = serve_http(processes, workspace)
    with raw_client(workspace) as client:
        client.ask("tools/list")
        assert engine_pid(workspace) == running.pid
    another_engine_has_ended(workspace)
    assert not running.exited()
