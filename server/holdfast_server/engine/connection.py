"""A connection to the engine's socket, up to and with the hello. Standard library only, and nothing heavy of it."""

import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from holdfast_server.engine.hello import GOODBYE, Answer, BadHello, Hello, read_answer
from holdfast_server.engine.lines import LineBuffer
from holdfast_server.engine.paths import StatePaths
from holdfast_store.model.errors import EngineError

CONNECT_TIMEOUT_S = 5.0
HELLO_TIMEOUT_S = 10.0
RESTART_TIMEOUT_S = 30.0
POLL_S = 0.01
RESTART_POLL_S = 0.05
CHUNK_BYTES = 262_144

STALE = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.ELOOP})
"""What connecting to a path says where nobody can be listening: it is free for whoever holds the lock."""


class Refused(EngineError):
    """The engine does not serve this caller; the text says why. Trying again is of no use."""


class CutOff(EngineError):
    """The engine went away in the middle of a hello: it was killed, or is ending. The next one may serve."""


class StartFailed(EngineError):
    """The engine did not start; the text ends with the last lines of its log.

    `refused`: its exit code says that trying again is of no use: the config is wrong, or the store is another's.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Connection:
    """A connection that the engine serves: its answer to the hello, and what it has sent since.

    `received` holds the whole lines that came behind the answer, `buffer` what came behind those.
    """

    __slots__ = ("answer", "buffer", "received", "socket")

    def __init__(self, connected: socket.socket, answer: Answer, received: list[bytes], buffer: LineBuffer) -> None:
        self.socket = connected
        self.answer = answer
        self.received = received
        self.buffer = buffer

    def close(self) -> None:
        self.socket.close()


def connect_socket(path: Path) -> socket.socket | None:
    """A blocking connection to `path`; None where nobody listens.

    Raises `EngineError` where somebody may listen and cannot be reached, or is a process of another user.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connecting.setblocking(False)
    try:
        while True:
            try:
                connecting.connect(os.fspath(path))
            except BlockingIOError:  # the queue of those who wait to be accepted is full
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)
            else:
                break
        connecting.setblocking(True)
        owner = peer_uid(connecting)
    except OSError as error:
        connecting.close()
        if error.errno in STALE:
            return None
        raise EngineError(f"cannot reach the engine at {path}: {error.strerror or error}") from error
    if owner != os.geteuid():
        connecting.close()
        raise EngineError(
            f"{path} is served by a process of user {owner}, not of user {os.geteuid()}: run as that user, "
            "or end that process and remove the file"
        )
    return connecting


def peer_uid(connection: socket.socket) -> int:
    """The effective user id of the process at the other end, as the kernel recorded it. Raises `OSError`."""
    if sys.platform == "darwin":
        local_level, local_peercred, xucred = 0, 0x001, "IIh16I"
        credentials = connection.getsockopt(local_level, local_peercred, struct.calcsize(xucred))
        _, uid, *_ = struct.unpack(xucred, credentials)
    else:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def open_connection(
    config: Path,
    paths: StatePaths,
    environ: Mapping[str, str],
    hello: Callable[[], Hello],
    *,
    start: bool = True,
    command: Sequence[str] | None = None,
) -> Connection | None:
    """A served connection to the engine of `config`; None where none lives and `start` is false.

    `hello` makes the hello once an engine lives, anew for each try. An engine that ends in favour of one
    of the caller's version, config or variables is waited for, and then started; one that dies in the middle of a
    hello is replaced. `command` starts an engine in place of the usual
    one. Raises `Refused`, `StartFailed`, and `EngineError` where the engine does not answer.
    """
    deadline = time.monotonic() + RESTART_TIMEOUT_S
    made_way = False
    while True:
        connected = connect_socket(paths.socket)
        if connected is None:
            if not start:
                return None
            from holdfast_server.engine.detach import connect_or_start  # `subprocess` costs what a warm start needs

            connected = connect_or_start(config, paths, environ, command=command)
        try:
            mine = hello()
            if made_way:  # what starts now is what is installed, be it another version than the caller still runs
                mine.version = None
            connection = say_hello(connected, mine)
        except CutOff:
            connected.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(RESTART_POLL_S)
            continue
        except BaseException:
            connected.close()
            raise
        if connection.answer.ok:
            return connection
        connection.close()
        if not connection.answer.restart:
            raise Refused(connection.answer.error or "the engine refused the connection")
        made_way = True
        if time.monotonic() >= deadline:
            raise EngineError(f"the engine said it would make way, and did not within {RESTART_TIMEOUT_S:g} s")
        time.sleep(RESTART_POLL_S)


def say_hello(connected: socket.socket, hello: Hello) -> Connection:
    """Say hello on a fresh connection, and hear the answer.

    Raises `CutOff`, and `EngineError` where no answer comes in time or it is none.
    """
    buffer = LineBuffer()
    deadline = time.monotonic() + HELLO_TIMEOUT_S
    try:
        connected.settimeout(HELLO_TIMEOUT_S)
        connected.sendall(hello.line())
        while True:
            connected.settimeout(max(POLL_S, deadline - time.monotonic()))
            chunk = connected.recv(CHUNK_BYTES)
            if not chunk:
                raise CutOff("the engine closed the connection without an answer")
            lines = buffer.feed(chunk)
            if lines[:1] == [GOODBYE]:
                raise CutOff("the engine is stopping")
            if lines:
                connected.settimeout(None)
                return Connection(connected, read_answer(lines[0]), lines[1:], buffer)
    except TimeoutError as error:
        raise EngineError(f"the engine did not answer a hello within {HELLO_TIMEOUT_S:g} s") from error
    except BadHello as error:
        raise EngineError(str(error)) from error
    except OSError as error:
        raise CutOff(f"the engine cut the connection: {error.strerror or error}") from error
