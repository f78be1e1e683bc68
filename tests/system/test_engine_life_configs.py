"""A config that changes under a living engine, variables with other values, and two configs on one store."""

from pathlib import Path
from typing import Any

import pytest
from asking import DEADLINE_S, engine_pid, engines
from raw_client import RawClient, park, raw_client, told, until_gone
from support.processes import alive, wait_until
from support.workspace import Workspace

REFUSED = 2
ONE, OTHER = {"GREETING": "value-one"}, {"GREETING": "value-two"}


def configure(workspace: Workspace, **settings: Any) -> None:
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, **settings})


def with_a_variable(workspace: Workspace) -> None:
    ledger = workspace.ledger_downstream()
    ledger["env"]["GREETING"] = "${GREETING:-hello}"
    workspace.write_config({"mcpServers": {"ledger": ledger}})


def warnings_of_the_doctor(workspace: Workspace) -> list[str]:
    findings = told(workspace, "doctor", str(workspace.config))["findings"]
    return [f["text"] for f in findings if f["about"] == "engine" and f["level"] == "warning"]


def tools_of(client: RawClient) -> set[str]:
    return {tool["name"] for tool in client.ask("tools/list")["result"]["tools"]}


def refused(client: RawClient) -> str:
    """What a client is told that is refused with exit code 2; what it reads on stderr."""
    answer = client.ask("tools/list")
    assert answer["error"]["code"] == -32000
    assert client.wait() == REFUSED
    return str(answer["error"]["message"])


def test_a_changed_config_is_taken_when_no_client_is_connected(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        client.ask("tools/list")
        before = engine_pid(workspace)
        client.leave()
    configure(workspace, naming={"prefix": False})
    with raw_client(workspace) as client:
        assert "write" in tools_of(client)
        assert client.stderr == ""
    assert not alive(before)


def test_beside_a_client_a_changed_config_waits_everybody_is_warned_and_it_is_taken_when_all_have_left(
    workspace: Workspace,
) -> None:
    configure(workspace)
    warning = f"{workspace.config} has changed since the engine read it; it is served as it was then, and taken with"
    with raw_client(workspace) as first:
        first.ask("tools/list")
        pid = engine_pid(workspace)
        assert warnings_of_the_doctor(workspace) == []
        configure(workspace, naming={"prefix": False})
        (found,) = warnings_of_the_doctor(workspace)
        assert found.startswith(warning)
        with raw_client(workspace) as second:
            assert "ledger__write" in tools_of(second)
            assert f"warning: {warning} `holdfast config reload {workspace.config}`" in second.stderr
        assert engine_pid(workspace) == pid
        assert first.call("ledger__read", n=1)
        configure(workspace)
        assert warnings_of_the_doctor(workspace) == []
    until_gone(pid)


def test_a_reload_is_the_other_way_to_take_it_and_ends_the_warning(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as first:
        first.ask("tools/list")
        pid = engine_pid(workspace)
        configure(workspace, naming={"prefix": False})
        with raw_client(workspace) as second:
            second.ask("tools/list")
            told(workspace, "config", "reload", str(workspace.config))
            assert "write" in tools_of(second)
        assert warnings_of_the_doctor(workspace) == []
        assert engine_pid(workspace) == pid
        first.leave()
    assert alive(pid)


def test_calls_under_way_are_finished_before_a_changed_config_is_taken(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        client.send("tools/call", name="ledger__write", arguments={"n": 1, "delay_ms": 3000})
        wait_until(lambda: workspace.ledger.effects() != [], DEADLINE_S, "the effect")
        pid = engine_pid(workspace)
        client.process.kill()
    configure(workspace, naming={"prefix": False})
    with raw_client(workspace) as client:
        assert "ledger__write" in tools_of(client)
        assert "has changed since the engine read it" in client.stderr
        client.leave()
    until_gone(pid)
    assert [effect.done for effect in workspace.ledger.effects()] == [True]
    (call,) = told(workspace, "calls", "list", str(workspace.config))["calls"]
    assert call["status"] == "done"


def test_a_command_is_warned_of_a_changed_config_and_does_not_replace_the_engine(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        call = park(client, 1)
        pid = engine_pid(workspace)
        configure(workspace, naming={"prefix": False})
        done = workspace.run("calls", "cancel", str(workspace.config), call)
        assert done.returncode == 0
        assert done.stderr.startswith(f"warning: {workspace.config} has changed")
        assert engine_pid(workspace) == pid


def test_a_config_that_was_broken_is_refused_with_the_line_and_served_when_it_is_mended(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace) as client:
        client.ask("tools/list")
        client.leave()
    workspace.config.write_text("mcpServers: {}\npreset: lenient\n")
    with raw_client(workspace) as client:
        refused(client)
        assert f"{workspace.config}:2: " in client.stderr
    configure(workspace)
    with raw_client(workspace) as client:
        assert "ledger__write" in tools_of(client)


@pytest.mark.parametrize("others", [OTHER, {}], ids=["another value", "unset"])
def test_variables_of_another_value_are_taken_when_no_client_is_connected(
    workspace: Workspace, others: dict[str, str]
) -> None:
    with_a_variable(workspace)
    with raw_client(workspace, variables=ONE) as client:
        client.ask("tools/list")
        before = engine_pid(workspace)
        client.leave()
    with raw_client(workspace, variables=others) as client:
        assert "ledger__write" in tools_of(client)
        after = engine_pid(workspace)
        assert client.stderr == ""
    assert before != after
    environment = Path(f"/proc/{after}/environ").read_bytes().split(b"\0")
    assert (b"GREETING=value-two" in environment) == (others == OTHER)


@pytest.mark.parametrize("others", [OTHER, {}], ids=["another value", "unset"])
def test_beside_a_client_another_value_of_a_variable_is_refused_by_its_name(
    workspace: Workspace, others: dict[str, str]
) -> None:
    with_a_variable(workspace)
    with raw_client(workspace, variables=ONE) as first:
        first.ask("tools/list")
        pid = engine_pid(workspace)
        with raw_client(workspace, variables=others) as second:
            assert "another value of GREETING" in refused(second)
            assert "another value of GREETING" in second.stderr
            assert f"holdfast engine restart {workspace.config}" in second.stderr
            assert "value-" not in second.stderr
        with raw_client(workspace, variables=ONE) as third:
            assert third.call("ledger__read", n=1)
        assert engine_pid(workspace) == pid


def test_a_variable_that_the_config_does_not_name_may_differ(workspace: Workspace) -> None:
    configure(workspace)
    with raw_client(workspace, variables=ONE) as first, raw_client(workspace, variables=OTHER) as second:
        assert tools_of(first) == tools_of(second)
        assert second.stderr == ""


def on_the_same_store(workspace: Workspace, url: str) -> Workspace:
    """Another config in the same folder, with the same downstream."""
    other = Workspace(workspace.folder)
    other.config = workspace.folder / "other.yaml"
    other.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, "store": url})
    return other


@pytest.mark.parametrize("through", ["the same path", "a link"])
def test_a_second_config_on_the_same_store_is_refused_and_told_whose_it_is(workspace: Workspace, through: str) -> None:
    store = workspace.folder / "shared.db"
    configure(workspace, store=f"sqlite://{store}")
    if through == "a link":
        (workspace.folder / "link.db").symlink_to(store)
    other = on_the_same_store(workspace, f"sqlite://{workspace.folder / ('link.db' if 'link' in through else store)}")
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        (pid,) = engines(workspace)
        owner = f"process {pid}, the detached engine of {workspace.config}"
        with raw_client(other) as refused_client:
            refused(refused_client)
            assert owner in refused_client.stderr
            assert f"holdfast engine stop {workspace.config}" in refused_client.stderr
        foreground = workspace.run("serve", str(other.config), "--http", "127.0.0.1:0")
        assert (foreground.returncode, owner in foreground.stderr) == (REFUSED, True), foreground.stderr
        assert engines(workspace) == [pid]
        assert client.call("ledger__write", n=2)
    told(workspace, "engine", "stop", str(workspace.config))
    with raw_client(other) as client:
        assert client.call("ledger__write", n=3)
