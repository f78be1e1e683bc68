"""A state folder without room, and what belongs to another user: said in a sentence, and no obstacle afterwards."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from asking import START_S
from raw_client import raw_client
from support.workspace import SUPPORT, Workspace

FAULTY = (sys.executable, str(SUPPORT / "faulty.py"))
FAILED, REFUSED, NO_ENGINE = 1, 2, 4
NOBODY = 65_534
SIZES = (0, 10, 100, 8192)
needs_root = pytest.mark.xfail(os.geteuid() != 0, reason="only root can be another user", raises=PermissionError)


def folder_of(workspace: Workspace) -> Path:
    (folder,) = workspace.state_home.glob("holdfast/*")
    return folder


# --- no room ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used before"])
def test_a_state_folder_without_room_is_named_with_the_mend_and_serves_once_there_is_some(
    workspace: Workspace, size: int, used: bool
) -> None:
    workspace.write_config()
    if used:
        assert workspace.run("engine", "restart", str(workspace.config)).returncode == 0
        assert workspace.run("engine", "stop", str(workspace.config)).returncode == 0
    with raw_client(workspace, command=(*FAULTY, "--file-bytes", str(size))) as client:
        refused = client.ask("tools/list")["error"]["message"]
        assert "nothing ran for this request: the engine cannot be started" in refused
        assert client.wait() == FAILED
        folder = folder_of(workspace)
        assert f"nothing can be written in {folder}: File too large; free some space on the disk" in client.stderr
        assert "XDG_STATE_HOME" in client.stderr
        assert "Traceback" not in client.stderr
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=1)
        assert client.stderr == ""
    assert len(workspace.ledger.effects()) == 1


def test_a_command_says_so_too_with_its_own_exit_code(workspace: Workspace) -> None:
    workspace.write_config()
    done = subprocess.run(
        [*FAULTY, "--file-bytes", "0", "engine", "restart", str(workspace.config)],
        env=workspace.environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == NO_ENGINE
    assert f"nothing can be written in {folder_of(workspace)}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("size", SIZES)
def test_an_engine_in_the_foreground_without_room_says_what_it_could_not_write(workspace: Workspace, size: int) -> None:
    workspace.write_config()
    done = subprocess.run(
        [*FAULTY, "--file-bytes", str(size), "serve", str(workspace.config), "--http", "127.0.0.1:0"],
        env=workspace.environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode in (FAILED, REFUSED)
    assert str(folder_of(workspace)) in done.stderr
    assert "free some space" in done.stderr or "a limit on the size of files is in the way" in done.stderr
    assert "Traceback" not in done.stderr
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=1)


# --- other users -----------------------------------------------------------------------------------------------


def not_ours(workspace: Workspace) -> str:
    """Make the state folder another user's; how that is said."""
    if os.geteuid() != 0:
        workspace.environment["XDG_STATE_HOME"] = "/usr"
        return "cannot make the folder /usr/holdfast"
    assert workspace.run("engine", "restart", str(workspace.config)).returncode == 0
    assert workspace.run("engine", "stop", str(workspace.config)).returncode == 0
    os.chown(folder_of(workspace), NOBODY, NOBODY)
    return f"{folder_of(workspace)} belongs to user {NOBODY}, not to user 0"


def test_a_state_folder_of_another_user_is_refused_by_the_shim_the_foreground_and_the_commands(
    workspace: Workspace,
) -> None:
    workspace.write_config()
    said, config = not_ours(workspace), str(workspace.config)
    with raw_client(workspace) as client:
        assert said in client.ask("tools/list")["error"]["message"]
        assert client.wait() == FAILED
        assert said in client.stderr
        assert "XDG_STATE_HOME" in client.stderr
    for code, arguments in ((REFUSED, ("serve", config, "--http", ":0")), (NO_ENGINE, ("engine", "restart", config))):
        done = workspace.run(*arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


@needs_root
def test_a_runtime_folder_of_another_user_is_refused_with_the_mend(workspace: Workspace) -> None:
    workspace.state_home = workspace.folder / ("deep" * 25)
    workspace.environment["XDG_STATE_HOME"] = str(workspace.state_home)
    runtime = workspace.folder / "holdfast"
    runtime.mkdir()
    os.chown(runtime, NOBODY, NOBODY)
    workspace.write_config()
    with raw_client(workspace) as client:
        client.ask("tools/list")
        assert client.wait() == FAILED
        assert f"{runtime} belongs to user {NOBODY}" in client.stderr
        assert "XDG_RUNTIME_DIR" in client.stderr


LISTENER = """
    import os, socket, sys
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    os.setuid(int(sys.argv[2]))
    listening.listen()
    print("listening", flush=True)
    sys.stdin.read()
"""


@needs_root
def test_who_listens_in_the_engines_place_as_another_user_is_told_nothing(workspace: Workspace) -> None:
    if os.geteuid() != 0:
        raise PermissionError
    workspace.write_config()
    assert workspace.run("engine", "restart", str(workspace.config)).returncode == 0
    assert workspace.run("engine", "stop", str(workspace.config)).returncode == 0
    place = folder_of(workspace) / "engine.sock"
    command = [sys.executable, "-c", textwrap.dedent(LISTENER), str(place), str(NOBODY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"listening\n"
        said = f"{place} is served by a process of user {NOBODY}, not of user 0"
        with raw_client(workspace) as client:
            client.ask("tools/list")
            assert client.wait() == FAILED
            assert said in client.stderr
        approve = workspace.run("approvals", "approve", str(workspace.config), "any")
        assert (approve.returncode, said in approve.stderr) == (NO_ENGINE, True), approve.stderr
        doctor = workspace.run("doctor", str(workspace.config))
        assert f"is served by a process of user {NOBODY}" in " ".join(doctor.stdout.split())
        listener.communicate(timeout=START_S)
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=1)
