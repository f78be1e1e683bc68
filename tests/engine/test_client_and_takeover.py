"""How commands ask the engine, and how one in the foreground takes over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_house import TIMEOUT_S, House
from support.processes import alive, wait_until

from holdfast_server.engine.admin_token import ensure_admin_token, read_admin_token
from holdfast_server.engine.client import connect, engine_alive
from holdfast_server.engine.connection import Refused, connect_socket
from holdfast_server.engine.detach import connect_or_start, log_tail
from holdfast_server.engine.lock import Owner, OwnerLock
from holdfast_server.engine.paths import prepare
from holdfast_server.engine.takeover import take_over
from holdfast_store.model.errors import AccessDenied, EngineError, NotFound, WrongState


@pytest.fixture
def running(house: House) -> House:
    """A house whose engine lives."""
    start(house)
    return house


def start(house: House, *options: str, timeout_s: float = TIMEOUT_S) -> None:
    paths = prepare(house.config, house.environment)
    command = house.engine_command(*options)
    connect_or_start(house.config, paths, house.environment, command=command, timeout_s=timeout_s).close()


def test_a_tool_is_called_with_the_operators_token_and_the_envelope_of_2026(running: House) -> None:
    with connect(running.config, environ=running.environment) as client:
        answer = client.call_tool("list_calls", {"limit": 3})
        assert client.call_tool("list_calls", {"limit": 4})["params"]["arguments"] == {"limit": 4}
    meta = answer["params"].pop("_meta")
    assert answer["params"] == {"name": "list_calls", "arguments": {"limit": 3}}
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "holdfast"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    hello = [entry for entry in running.entries("hello") if entry["token"]][-1]
    assert hello["hello"] == "admin"
    assert hello["token"] == read_admin_token(running.paths.token)


def test_a_token_that_was_given_is_the_one_used(running: House) -> None:
    with connect(running.config, token="mine", environ=running.environment) as client:
        client.call_tool("list_calls", {})
    assert running.entries("hello")[-1]["token"] == "mine"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not_found", NotFound),
        ("access_denied", AccessDenied),
        ("wrong_state", WrongState),
        ("engine", EngineError),
        ("unheard_of", EngineError),
    ],
)
def test_a_tools_error_is_raised_by_its_code(running: House, code: str, error: type[Exception]) -> None:
    with connect(running.config, environ=running.environment) as client:
        with pytest.raises(error, match="so it failed") as raised:
            client.call_tool("fail", {"code": code})
        assert type(raised.value) is error


def test_an_engine_that_dies_under_a_command_is_an_error(running: House) -> None:
    with connect(running.config, environ=running.environment) as client:
        pid = client.engine.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), TIMEOUT_S, "the end of the engine")
        with pytest.raises(EngineError, match="cut the connection"):
            client.call_tool("list_calls", {})


def test_whether_an_engine_lives_is_told_without_a_token_and_without_starting_one(house: House) -> None:
    assert engine_alive(house.config, house.environment) is None
    assert house.engines() == []
    start(house)
    found = engine_alive(house.config, house.environment)
    assert found is not None
    assert (found.pid, found.version) == (house.engines()[0], "0.0.test")


def test_without_an_engine_and_told_not_to_start_one_connecting_is_an_error(house: House) -> None:
    with (
        pytest.raises(EngineError, match="no engine of"),
        connect(house.config, start=False, environ=house.environment),
    ):
        pass


def test_a_refusal_is_an_error_with_the_engines_words(house: House) -> None:
    start(house, "--refuse", "the admin endpoint needs a token")
    with pytest.raises(Refused, match="needs a token"), connect(house.config, environ=house.environment):
        pass


def test_an_engine_that_does_not_listen_in_time_is_ended_and_its_log_shown(house: House) -> None:
    with pytest.raises(EngineError, match=r"did not listen within 0\.5 s"):
        start(house, "--slow", "600", timeout_s=0.5)
    pid = house.engines()[0]
    wait_until(lambda: not alive(pid), TIMEOUT_S, "the end of the engine")


def test_a_start_waits_for_an_engine_that_is_stopping(house: House) -> None:
    paths = prepare(house.config, house.environment)
    stopping = OwnerLock(paths.lock, Owner.this_process(house.config, "detached"))
    stopping.acquire()
    with pytest.raises(EngineError, match=f"process {os.getpid()}.*has not listened"):
        start(house, timeout_s=0.2)
    assert house.engines() == []
    stopping.release()
    start(house)
    assert len(house.engines()) == 1


def test_a_long_log_is_put_aside_and_only_this_starts_lines_are_shown(house: House) -> None:
    paths = prepare(house.config, house.environment)
    paths.log.write_text("an old line\n" * 1_000_000)
    with pytest.raises(EngineError, match="fresh words") as raised:
        start(house, "--fail", "1", "--last-words", "fresh words")
    assert "an old line" not in str(raised.value)
    assert paths.log.with_name("engine.log.1").stat().st_size == 12_000_000
    assert log_tail(paths.log) == "fresh words"


def test_taking_over_asks_a_detached_engine_to_stop_and_says_how_long_to_wait(running: House) -> None:
    wait_s = take_over(running.config, running.paths, drain_s=1.0, environ=running.environment)
    lock = OwnerLock(running.paths.lock, Owner.this_process(running.config, "http"))
    lock.acquire(wait_s)
    assert connect_socket(running.paths.socket) is None
    lock.release()
    assert running.entries("stopped") != []


def test_where_no_engine_lives_there_is_nothing_to_take_over(house: House) -> None:
    paths = prepare(house.config, house.environment)
    assert take_over(house.config, paths, environ=house.environment) == 0.0


def test_a_second_engine_in_the_foreground_is_refused_by_name(house: House) -> None:
    paths = prepare(house.config, house.environment)
    with (
        OwnerLock(paths.lock, Owner.this_process(house.config, "http")),
        pytest.raises(EngineError, match=f"process {os.getpid()}, the http engine of {house.config}"),
    ):
        take_over(house.config, paths, environ=house.environment)


def test_the_admin_token_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    assert read_admin_token(path) is None
    token = ensure_admin_token(path)
    assert len(token) >= 43
    assert ensure_admin_token(path) == token == read_admin_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(EngineError, match="can be read or written by others"):
        read_admin_token(path)


SIGNALLED = """
import asyncio, time
from holdfast_server.engine.signals import stop_signals

async def main():
    with stop_signals() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        time.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_kills_however_stuck(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SIGNALLED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"stopping\n"
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == -number
