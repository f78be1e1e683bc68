"""`holdfast config reload` and what shows the config that is in force."""

import json
from typing import Any

from support.workspace import Workspace

from holdfast_server.engine.client import connect


def started(workspace: Workspace, **settings: Any) -> None:
    """An engine in the background, with these settings on top of one ledger downstream."""
    write(workspace, **settings)
    with connect(workspace.config, environ=workspace.environment) as client:
        client.call_tool("engine_status", {})


def write(workspace: Workspace, **settings: Any) -> None:
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, **settings})


def test_without_an_engine_there_is_nothing_to_reload(workspace: Workspace) -> None:
    write(workspace)
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 0
    assert "no engine is running" in done.stdout
    assert workspace.processes() == []


def test_a_file_that_is_not_there_is_a_wrong_command_line(workspace: Workspace) -> None:
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 2
    assert "there is no such file" in done.stderr


def test_a_reload_says_what_changed(workspace: Workspace) -> None:
    started(workspace, inline_wait="4s", rules=[{"id": "old", "effect": "deny"}])
    principals = [{"id": "anna", "token": "a-token-of-some-length", "roles": ["approver"]}]
    write(workspace, inline_wait="5s", rules=[{"id": "new", "effect": "deny"}], principals=principals)
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 0, done.stderr
    words = done.stdout
    for expected in ("unchanged: ledger", "added: new", "removed: old", "added: anna", "inline_wait"):
        assert expected in words
    assert "a-token-of-some-length" not in words


def test_a_reload_of_the_same_file_says_that_nothing_changed(workspace: Workspace) -> None:
    started(workspace)
    done = workspace.run("config", "reload", str(workspace.config), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reloaded"] is True
    assert found["changed"] is False
    assert found["downstreams"] == {"added": [], "removed": [], "restarted": [], "unchanged": ["ledger"]}
    assert "nothing changed" in workspace.run("config", "reload", str(workspace.config)).stdout


def test_a_bad_file_is_told_by_line_and_changes_nothing(workspace: Workspace) -> None:
    started(workspace)
    before = json.loads(workspace.run("engine", "status", str(workspace.config), "--json").stdout)
    good = workspace.config.read_text()
    workspace.config.write_text("mcpServers: {}\npreset: lenient\n")
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 2
    assert f"{workspace.config}:2" in done.stderr
    refused = json.loads(workspace.run("config", "reload", str(workspace.config), "--json").stdout)
    assert refused["reloaded"] is False
    assert f"{workspace.config}:2" in refused["problems"][0]

    after = json.loads(workspace.run("engine", "status", str(workspace.config), "--json").stdout)
    assert after["engine"]["config_sha256"] == before["engine"]["config_sha256"]
    assert [found["name"] for found in after["downstreams"]] == ["ledger"]

    workspace.config.write_text(good)
    assert "the last reload changed nothing" in workspace.run("doctor", str(workspace.config)).stdout
    assert workspace.run("config", "reload", str(workspace.config)).returncode == 0
    assert "the last reload" not in workspace.run("doctor", str(workspace.config)).stdout


def test_what_cannot_change_while_running_is_refused_by_name(workspace: Workspace) -> None:
    started(workspace)
    write(workspace, store="sqlite://./elsewhere.db", inline_wait="9s")
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 2
    assert "store is another" in done.stderr
    assert f"holdfast engine restart {workspace.config}" in done.stderr
    assert not (workspace.folder / "elsewhere.db").exists()


def test_an_approver_may_not_reload(workspace: Workspace) -> None:
    token = "a-token-of-some-length"
    started(workspace, principals=[{"id": "anna", "token": token, "roles": ["approver"]}])
    workspace.environment["HOLDFAST_TOKEN"] = token
    done = workspace.run("config", "reload", str(workspace.config))
    assert done.returncode == 3
    assert "the role admin" in done.stderr


def test_status_and_doctor_show_when_the_config_was_loaded(workspace: Workspace) -> None:
    started(workspace)
    loaded = json.loads(workspace.run("engine", "status", str(workspace.config), "--json").stdout)["engine"]
    assert "config loaded" in workspace.run("doctor", str(workspace.config)).stdout
    workspace.run("config", "reload", str(workspace.config))
    again = json.loads(workspace.run("engine", "status", str(workspace.config), "--json").stdout)["engine"]
    assert again["config_loaded_at"] > loaded["config_loaded_at"]
    assert again["pid"] == loaded["pid"]
