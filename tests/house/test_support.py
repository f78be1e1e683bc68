"""The tests' own tools hold what they promise: a judge that cannot be fooled, processes that all end."""

import json
import os
import signal
import subprocess
import sys

import pytest
from mcp import Client, StdioServerParameters
from support.processes import Processes, alive, wait_until
from support.workspace import SUPPORT, Workspace

DEADLINE_S = 20.0


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_ledger_downstream_serves_both_eras_on_both_transports(
    mode: str, transport: str, workspace: Workspace, processes: Processes
) -> None:
    command = workspace.ledger_command()
    environment = {**workspace.environment, "PYTHONPATH": str(SUPPORT.parent)}
    if transport == "http":
        running = processes.start([*command, "--http", "0"], environment=environment)
        server: str | StdioServerParameters = running.wait_for(r"listening on (\S+)", DEADLINE_S)[1]
    else:
        server = StdioServerParameters(command=command[0], args=command[1:], env=environment)
    async with Client(server, mode=mode, read_timeout_seconds=DEADLINE_S) as client:
        listed = await client.list_tools()
        answer = await client.call_tool("write", {"n": 7})
        failure = await client.call_tool("fail", {"n": 8})
    assert {"read", "write", "destroy", "fail", "break", "slow"} == {tool.name for tool in listed.tools}
    assert not answer.is_error
    assert failure.is_error
    assert [(effect.arguments, effect.done) for effect in workspace.ledger.effects()] == [
        ({"n": 7}, True),
        ({"n": 8}, True),
    ]


def test_an_effect_cut_by_a_kill_stands_in_the_ledger_as_begun_and_not_done(
    workspace: Workspace, processes: Processes
) -> None:
    script = (
        "import sys, time; from pathlib import Path; from support.ledger import Ledger;"
        "Ledger(Path(sys.argv[1])).begin('e1', 'write', {'n': 1}); time.sleep(60)"
    )
    running = processes.start(
        [sys.executable, "-c", script, workspace.ledger.path],
        environment={**os.environ, "PYTHONPATH": str(SUPPORT.parent)},
    )
    wait_until(lambda: len(workspace.ledger.effects()) == 1, DEADLINE_S, "the effect's first line")
    running.kill()
    (effect,) = workspace.ledger.effects("write")
    assert (effect.id, effect.done, effect.pid) == ("e1", False, running.pid)


def test_a_workspace_ends_detached_processes_that_were_started_in_it(workspace: Workspace) -> None:
    script = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    )
    pid = int(subprocess.check_output([sys.executable, "-c", script], env=workspace.environment, timeout=DEADLINE_S))
    assert workspace.processes() == [pid]
    workspace.end_all()
    assert not alive(pid)


def test_waiting_for_output_of_a_process_that_exited_says_what_it_printed(processes: Processes) -> None:
    running = processes.start([sys.executable, "-c", "import sys; sys.exit('no such config')"])
    with pytest.raises(TimeoutError, match=r"exited with 1[^$]*no such config"):
        running.wait_for("listening", DEADLINE_S)


def test_a_process_that_ignores_the_polite_signal_is_ended_all_the_same(processes: Processes) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    running = processes.start([sys.executable, "-c", script])
    running.wait_for("deaf", DEADLINE_S)
    processes.end_all()
    assert running.wait(0) == -signal.SIGKILL


def test_the_default_config_of_a_workspace_is_a_plain_client_config(workspace: Workspace) -> None:
    settings = json.loads(workspace.write_config().read_text())
    assert list(settings) == ["mcpServers"]
    assert settings["mcpServers"]["ledger"]["command"] == sys.executable
