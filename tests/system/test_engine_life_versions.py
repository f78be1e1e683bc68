"""After an upgrade: who meets an engine of another version, which one goes on, and what each side is told."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from asking import engine_pid, engines
from raw_client import park, raw_client, told, until_gone
from releases import NEWER, OLDER, Release
from support.processes import alive
from support.workspace import Workspace

from holdfast_server.version import VERSION

REFUSED = 2
FAILED = 1


@pytest.fixture
def newer(tmp_path: Path) -> Release:
    return Release(tmp_path / "newer", NEWER)


@pytest.fixture
def older(tmp_path: Path) -> Release:
    return Release(tmp_path / "older", OLDER)


def status(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = told(workspace, "engine", "status", str(workspace.config))["engine"]
    return found


def warnings_of_the_doctor(workspace: Workspace, release: Release | None = None) -> list[str]:
    variables = release.variables if release is not None else None
    findings = told(workspace, "doctor", str(workspace.config), variables=variables)["findings"]
    return [f["text"] for f in findings if f["about"] == "engine" and f["level"] == "warning"]


def left_alone(workspace: Workspace) -> int:
    """An engine of this version with a client in its past and none now."""
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        pid = engine_pid(workspace)
        client.leave()
    return pid


def test_an_engine_that_serves_nobody_makes_way_for_a_newer_one(workspace: Workspace, newer: Release) -> None:
    workspace.write_config()
    before = left_alone(workspace)
    with raw_client(workspace, variables=newer.variables) as client:
        assert client.call("ledger__write", n=2)
        assert engine_pid(workspace) != before
        assert status(workspace)["version"] == NEWER
        assert client.stderr == ""
    until_gone(before)
    assert [effect.arguments["n"] for effect in workspace.ledger.effects()] == [1, 2]


def test_an_engine_with_a_client_serves_a_newer_one_too_and_makes_way_when_both_have_left(
    workspace: Workspace, newer: Release
) -> None:
    workspace.write_config()
    with raw_client(workspace) as first:
        first.call("ledger__read", n=1)
        pid = engine_pid(workspace)
        with raw_client(workspace, variables=newer.variables) as second:
            assert second.call("ledger__read", n=2)
            assert engine_pid(workspace) == pid
            for said in (second.stderr, *warnings_of_the_doctor(workspace)):
                assert f"Holdfast {VERSION}" in said
                assert f"Holdfast {NEWER}" in said
                assert f"holdfast engine restart {workspace.config}" in said
            assert warnings_of_the_doctor(workspace, newer) == warnings_of_the_doctor(workspace) != []
        assert first.call("ledger__read", n=3)
        assert alive(pid)
    until_gone(pid)


def test_the_mend_that_is_named_brings_the_newer_engine_and_keeps_the_clients(
    workspace: Workspace, newer: Release
) -> None:
    workspace.write_config()
    with raw_client(workspace) as first, raw_client(workspace, variables=newer.variables) as second:
        first.call("ledger__read", n=1)
        second.call("ledger__read", n=1)
        told(workspace, "engine", "restart", str(workspace.config), variables=newer.variables)
        assert status(workspace)["version"] == NEWER
        assert second.call("ledger__read", n=2)
        assert first.call("ledger__read", n=2)
        assert status(workspace)["version"] == NEWER


def test_an_older_caller_is_served_by_the_newer_engine_and_told(workspace: Workspace, older: Release) -> None:
    workspace.write_config()
    pid = left_alone(workspace)
    with raw_client(workspace, variables=older.variables) as client:
        assert client.call("ledger__read", n=1)
        assert engine_pid(workspace) == pid
        assert f"the engine of {workspace.config} is Holdfast {VERSION}, its caller Holdfast {OLDER}" in client.stderr
        client.leave()
    assert alive(pid)


@pytest.mark.parametrize("version", [NEWER, OLDER], ids=["upgrade", "downgrade"])
def test_a_client_goes_on_when_another_version_is_installed_beneath_it(
    workspace: Workspace, tmp_path: Path, version: str
) -> None:
    installed = Release(tmp_path / "installed", "1.0.0")
    workspace.write_config()
    with raw_client(workspace, variables=installed.variables) as client:
        client.call("ledger__read", n=1)
        before = engine_pid(workspace)
        installed.become(version)
        os.kill(before, signal.SIGKILL)
        until_gone(before)
        assert client.call("ledger__read", n=2)
        assert status(workspace)["version"] == version
        assert client.call("ledger__read", n=3)
    assert len(engines(workspace)) == 1


def test_a_newer_command_that_changes_something_has_a_newer_engine_do_it(workspace: Workspace, newer: Release) -> None:
    workspace.write_config()
    with raw_client(workspace) as client:
        park(client, 1)
        before = engine_pid(workspace)
        client.leave()
    (approval,) = told(workspace, "approvals", "list", str(workspace.config))["approvals"]
    told(workspace, "approvals", "approve", str(workspace.config), approval["id"], variables=newer.variables)
    until_gone(before)
    assert status(workspace)["version"] == NEWER


def test_a_newer_command_that_only_looks_leaves_the_engine_alone(workspace: Workspace, newer: Release) -> None:
    workspace.write_config()
    pid = left_alone(workspace)
    shown = told(workspace, "engine", "status", str(workspace.config), variables=newer.variables)
    assert shown["engine"]["version"] == VERSION
    warnings_of_the_doctor(workspace, newer)
    assert alive(pid)
    assert engine_pid(workspace) == pid


def test_an_engine_of_another_protocol_refuses_names_both_and_its_mend_works(
    workspace: Workspace, newer: Release
) -> None:
    newer.speak(2)
    workspace.write_config()
    config = str(workspace.config)
    before = left_alone(workspace)
    with raw_client(workspace, variables=newer.variables) as client:
        refused = client.ask("tools/list")
        assert "protocol 1, the caller 2" in refused["error"]["message"]
        assert client.wait() == REFUSED
        assert f"the engine speaks protocol 1, the caller 2 (Holdfast {NEWER})" in client.stderr
        assert "holdfast engine restart" in client.stderr
    assert alive(before)
    told(workspace, "engine", "restart", config, variables=newer.variables)
    until_gone(before)
    with raw_client(workspace, variables=newer.variables) as client:
        assert client.call("ledger__read", n=1)


def test_a_store_of_a_newer_version_is_refused_by_an_older_engine_and_stays_as_it_is(
    workspace: Workspace, newer: Release
) -> None:
    newer.extend_the_store()
    workspace.write_config()
    with raw_client(workspace, variables=newer.variables) as client:
        client.call("ledger__write", n=1)
        client.leave()
    told(workspace, "engine", "stop", str(workspace.config), variables=newer.variables)
    (store,) = workspace.state_home.glob("holdfast/*/state.db")
    content = hashlib.sha256(store.read_bytes()).hexdigest()
    with raw_client(workspace) as client:
        assert "did not start" in client.ask("tools/list")["error"]["message"]
        assert client.wait() == FAILED
        assert "was written by a newer Holdfast" in client.stderr
        assert "upgrade Holdfast" in client.stderr
        assert "Traceback" not in client.stderr
    assert hashlib.sha256(store.read_bytes()).hexdigest() == content
    with raw_client(workspace, variables=newer.variables) as client:
        assert client.call("ledger__write", n=2)
