"""The engine's local socket."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast_server.engine import listener as listening
from holdfast_server.engine.connection import connect_socket, peer_uid
from holdfast_server.engine.hello import AGENT, GOODBYE, MAX_HELLO_BYTES, Answer, Hello, read_answer
from holdfast_server.engine.listener import SocketListener, read_lines
from holdfast_server.engine.lock import Owner, OwnerLock
from holdfast_store.model.errors import EngineError

VERSION = "0.0.test"
TIMEOUT_S = 10.0
NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hf-") as name:
        yield Path(name)


@pytest.fixture
def lock(folder: Path) -> Iterator[OwnerLock]:
    with OwnerLock(folder / "engine.lock", Owner.this_process(folder / "c.yaml", "detached")) as held:
        yield held


async def echo(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(Answer(os.getpid(), VERSION).line())
    async for line in read_lines(reader):
        if line == b"break\n":
            raise ValueError("broken")
        writer.write(line)
        await writer.drain()


@pytest.fixture
async def served(folder: Path, lock: OwnerLock) -> AsyncIterator[SocketListener]:
    async with asyncio.timeout(60), SocketListener(folder / "engine.sock", lock, echo, version=VERSION) as listener:
        yield listener


async def greeted(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=10_000_000)
    writer.write(Hello(AGENT, "digest", {}).line())
    assert read_answer(await reader.readline()).ok
    return reader, writer


async def test_a_connection_that_said_hello_is_served_and_counted(served: SocketListener) -> None:
    reader, writer = await greeted(served.path)
    assert served.connections == 1
    writer.write(b"one\ntwo\n")
    assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]
    writer.close()
    await writer.wait_closed()
    await until(lambda: served.connections == 0)


async def test_a_line_far_beyond_the_readers_limit_passes(served: SocketListener) -> None:
    reader, writer = await greeted(served.path)
    line = b"x" * 5_000_000 + b"\n"
    writer.write(line)
    assert await reader.readline() == line
    writer.close()


async def test_the_socket_is_for_its_owner_alone(served: SocketListener) -> None:
    found = served.path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_the_kernel_names_the_peer() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.geteuid()


@pytest.mark.xfail(os.geteuid() != 0, reason="only root can be another user", raises=subprocess.CalledProcessError)
async def test_another_users_process_is_refused(served: SocketListener) -> None:
    served.path.parent.chmod(0o755)
    served.path.chmod(0o666)
    script = (
        f"import os, socket; os.setuid({NOBODY}); s = socket.socket(socket.AF_UNIX); "
        f"s.connect({str(served.path)!r}); print(s.makefile().readline())"
    )
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, check=True, timeout=TIMEOUT_S
    )
    answer = read_answer(ran.stdout)
    assert not answer.ok
    assert answer.error == "this engine belongs to another user"
    assert served.connections == 0


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(b"GET / HTTP/1.1\n", "one line of JSON"), (b"x" * (MAX_HELLO_BYTES + 2), "at most")],
)
async def test_what_is_no_hello_is_refused_with_a_reason(served: SocketListener, sent: bytes, reason: str) -> None:
    reader, writer = await asyncio.open_unix_connection(served.path)
    writer.write(sent)
    answer = read_answer(await reader.readline())
    assert not answer.ok
    assert reason in (answer.error or "")
    assert await reader.read() == b""
    writer.close()


async def test_who_says_nothing_is_let_go(served: SocketListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HELLO_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(served.path)
    assert "no hello within" in (read_answer(await reader.readline()).error or "")
    writer.close()


async def test_one_that_breaks_ends_alone(served: SocketListener, caplog: pytest.LogCaptureFixture) -> None:
    broken, writer = await greeted(served.path)
    other, other_writer = await greeted(served.path)
    writer.write(b"break\n")
    assert await broken.read() == b""
    assert "ValueError: broken" in caplog.text
    other_writer.write(b"still here\n")
    assert await other.readline() == b"still here\n"
    writer.close()
    other_writer.close()


async def test_stopping_says_goodbye_closes_all_and_removes_the_socket(served: SocketListener) -> None:
    reader, writer = await greeted(served.path)
    await served.stop()
    assert await reader.read() == GOODBYE
    assert not served.path.exists()
    assert connect_socket(served.path) is None
    writer.close()


async def test_who_has_not_been_answered_when_it_stops_is_cut_off_without_a_word(served: SocketListener) -> None:
    reader, writer = await asyncio.open_unix_connection(served.path)
    await until(lambda: not served.is_empty)
    served.close()
    writer.write(Hello(AGENT, "digest", {}).line())
    assert await reader.read() == b""
    assert served.connections == 0
    writer.close()


async def test_closing_lets_open_connections_go_on(served: SocketListener) -> None:
    reader, writer = await greeted(served.path)
    served.close()
    assert connect_socket(served.path) is None
    writer.write(b"more\n")
    assert await reader.readline() == b"more\n"
    writer.close()


async def test_a_stale_socket_is_replaced_only_under_the_lock(folder: Path, lock: OwnerLock) -> None:
    path = folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert connect_socket(path) is None
    lock.release()
    with pytest.raises(RuntimeError, match="must be held"):
        await SocketListener(path, lock, echo, version=VERSION).start()
    lock.acquire()
    async with SocketListener(path, lock, echo, version=VERSION):
        _, writer = await greeted(path)
        writer.close()


async def test_a_folder_that_is_not_there_is_an_error_with_the_path(folder: Path, lock: OwnerLock) -> None:
    with pytest.raises(EngineError, match=r"cannot listen on .*missing/engine\.sock"):
        await SocketListener(folder / "missing" / "engine.sock", lock, echo, version=VERSION).start()


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)
