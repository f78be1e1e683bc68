"""Many starts at once, starts that fail again and again, and what lies where the socket should be."""

import os
import signal
import socket
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asking import engine_pid, engines
from raw_client import RawClient, raw_client, until_gone
from support.workspace import Workspace

AT_ONCE = 10
STARTS = 3
FAILED = 1

KILLER = """
    import os, signal, sys
    if sys.orig_argv[1:4] == ["-P", "-m", "holdfast_server.engine"]:
        with open(os.environ["STARTS"], "a") as starts:
            starts.write("started\\n")
        print("out of luck", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_ten_clients_that_come_at_once_to_nothing_are_served_by_one_engine(workspace: Workspace) -> None:
    workspace.write_config()

    def visit(n: int) -> str:
        with raw_client(workspace) as client:
            text = client.call("ledger__write", n=n)["content"][0]["text"]
            assert client.stderr == ""
        return str(text)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        texts = list(pool.map(visit, range(AT_ONCE)))
    assert [text.partition(" as ")[0] for text in texts] == [f"write {n}" for n in range(AT_ONCE)]
    assert engines(workspace) == [engine_pid(workspace)]
    (log,) = workspace.state_home.glob("holdfast/*/engine.log")
    assert log.read_text().count("ready") == 1


def failed(client: RawClient) -> str:
    """The error that a client gets to its first request where no engine starts; its shim ends with 1."""
    answer = client.ask("tools/list")
    assert answer["error"]["code"] == -32000
    assert client.wait() == FAILED
    return str(answer["error"]["message"])


def test_an_engine_that_something_kills_at_every_start_is_started_three_times_and_given_up(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.write_config()
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(KILLER))
    starts = tmp_path / "starts"
    with raw_client(workspace, variables={"PYTHONPATH": str(tmp_path), "STARTS": str(starts)}) as client:
        message = failed(client)
        assert "the engine did not start: it exited with code 137" in message
        assert "out of luck" in client.stderr
        (log,) = workspace.state_home.glob("holdfast/*/engine.log")
        assert f"the last lines of {log}" in client.stderr
        assert str(log) not in message
    assert len(starts.read_text().splitlines()) == STARTS
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=1)


def test_a_store_that_is_none_ends_the_start_with_the_cause_and_the_mend(workspace: Workspace) -> None:
    store = workspace.folder / "data" / "calls.db"
    store.parent.mkdir()
    store.write_bytes(b"this is no database " * 1000)
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "store": f"sqlite://{store}"})
    with raw_client(workspace) as client:
        failed(client)
        assert str(store) in client.stderr
        assert "Traceback" not in client.stderr
    assert store.read_bytes() == b"this is no database " * 1000
    store.unlink()
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=1)


def test_a_client_in_the_midst_of_a_session_gets_errors_when_no_engine_comes_back(workspace: Workspace) -> None:
    store = workspace.folder / "data" / "calls.db"
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "store": f"sqlite://{store}"})
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        pid = engine_pid(workspace)
        client.send("tools/call", name="ledger__slow", arguments={"n": 2, "delay_ms": 60_000})
        for path in store.parent.glob("calls.db*"):
            if path.suffix != ".lock":
                path.unlink()
        store.write_bytes(b"this is no database " * 1000)
        os.kill(pid, signal.SIGKILL)
        assert client.answer()["error"]["code"] == -32000
        assert client.wait() == FAILED
        assert "did not start" in client.stderr


def stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def plain_file(path: Path) -> None:
    path.write_text("no socket")


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("left", [stale, plain_file, dangling_link, loop])
@pytest.mark.parametrize("depth", ["short", "long"])
def test_what_lies_in_the_sockets_place_is_taken_over(workspace: Workspace, left: object, depth: str) -> None:
    if depth == "long":
        workspace.state_home = workspace.folder / ("deep" * 25)
        workspace.environment["XDG_STATE_HOME"] = str(workspace.state_home)
    workspace.write_config()
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        pid = engine_pid(workspace)
        client.leave()
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    (place,) = workspace.state_home.glob("holdfast/*/engine.sock")
    os.chdir(place.parent)
    try:
        place.unlink()
        assert callable(left)
        left(Path(place.name))
    finally:
        os.chdir(workspace.folder.parent)
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=2)
        assert client.stderr == ""


def test_the_socket_of_a_killed_engine_is_taken_over(workspace: Workspace) -> None:
    workspace.write_config()
    with raw_client(workspace) as client:
        client.call("ledger__write", n=1)
        pid = engine_pid(workspace)
        (place,) = workspace.state_home.glob("holdfast/*/engine.sock")
        client.leave()
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    assert place.is_socket()
    with raw_client(workspace) as client:
        assert client.call("ledger__write", n=2)
