"""`holdfast serve CONFIG` on stdio: lines between a client and the engine of its config. Standard library only.

It finds the engine, or starts one, and survives it: a client whose engine died keeps its session, gets an error for
each request that was under way, and never has one sent twice. One thread, one `poll`; nothing blocks but finding the
engine again, while what the client writes waits in order.
"""

import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from holdfast_server.engine.connection import CHUNK_BYTES, Connection, Refused, StartFailed, open_connection
from holdfast_server.engine.conversation import Conversation, Outgoing, ReplayRefused
from holdfast_server.engine.hello import AGENT, Hello, config_digest, variable_digests
from holdfast_server.engine.lines import LineBuffer
from holdfast_server.engine.paths import StatePaths, prepare
from holdfast_server.version import VERSION
from holdfast_store.model.errors import EngineError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2

FAILED_STARTS = 3
FAILED_STARTS_WINDOW_S = 60.0
START_PAUSE_S = 0.2
SHORT_LIFE_S = 1.0
SHORT_LIFE_PAUSE_S = 0.1
MAX_PAUSE_S = 1.0
DRAIN_S = 10.0
HALF_CLOSED_S = 2.0
FLUSH_S = 1.0
LAST_WORDS_S = 1.0
HIGH_WATER_BYTES = 1_048_576


class _Stopped(BaseException):
    """SIGTERM or SIGINT."""


class _ClientGone(Exception):
    """Nobody reads what the client is told any more."""


def parse(arguments: Sequence[str]) -> tuple[Path, str | None] | None:
    """CONFIG and the `--as` principal of `serve` arguments that ask for nothing else; None for the full parser."""
    config = principal = None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--as":
            principal = next(rest, None)
            if principal is None:
                return None
        elif argument.startswith("--as="):
            principal = argument.removeprefix("--as=")
        elif argument.startswith("-") or config is not None:
            return None
        else:
            config = argument
    if not config or principal == "":
        return None
    return Path(config), principal


def run(
    config: Path,
    principal: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> int:
    """Serve the client on stdin and stdout until it closes stdin; the exit code.

    `command` starts an engine in place of the usual one. Errors go to stderr.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    shim = Shim(config, principal, os.environ if environ is None else environ, command)
    code = EXIT_OK
    with suppress(_ClientGone, _Stopped):
        try:
            shim.serve()
        except (EngineError, ReplayRefused) as error:
            code = EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED
            _say(str(error))
            shim.turn_away(_cause(error))
    return code


class Shim:
    """One client's connection, over as many engines as it takes."""

    def __init__(
        self, config: Path, principal: str | None, environ: Mapping[str, str], command: Sequence[str] | None
    ) -> None:
        self._config = config
        self._principal = principal
        self._environ = environ
        self._command = command
        self._stdin = 0
        self._stdout = 1
        self._conversation = Conversation()
        self._connection: Connection | None = None
        self._connected_at = 0.0
        self._takes_no_more = False
        self._short_lives = 0
        self._failures: deque[float] = deque()
        self._warned: set[str] = set()
        self._from_client = LineBuffer()
        self._to_engine: deque[Outgoing] = deque()
        self._to_client: deque[memoryview] = deque()
        self._bytes_to_engine = 0
        self._bytes_to_client = 0
        self._client_left = False
        self._leave_at = 0.0
        self._half_closed = False

    def serve(self) -> None:
        """Until the client has left and was told what it waited for, for at most `DRAIN_S` seconds."""
        paths = prepare(self._config, self._environ)
        while True:
            if self._connection is None and self._engine_wanted():
                self._attach(paths)
            if self._client_left and self._drained():
                return
            self._turn()

    def turn_away(self, cause: str) -> None:
        """Answer with an error what the client waits for, and what it asks until it is silent for `LAST_WORDS_S`."""
        ends_at = time.monotonic() + DRAIN_S
        poll = select.poll()
        poll.register(self._stdin, select.POLLIN)
        while True:
            for line in self._conversation.turned_away(self._to_engine, cause):
                self._tell(line)
            self._to_engine.clear()
            self._flush()
            if self._client_left or time.monotonic() >= ends_at or not poll.poll(int(LAST_WORDS_S * 1000)):
                return
            self._read_client()

    def _engine_wanted(self) -> bool:
        """After a goodbye, or when the client has left, only for a line that waits to be sent."""
        return bool(self._to_engine) or (not self._client_left and not self._conversation.goodbye)

    def _drained(self) -> bool:
        """The client has left: tell the engine, and wait for what is unanswered; whether that is nothing any more.

        The engine still answers, and knows from now on that nobody may be there to read it.
        """
        if self._connection is None:
            return not self._to_client or time.monotonic() >= self._leave_at
        if not self._half_closed and not self._to_engine:
            self._half_closed = True
            with suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_WR)
        if self._half_closed and not self._conversation.waiting:
            self._leave_at = min(self._leave_at, time.monotonic() + HALF_CLOSED_S)
        return time.monotonic() >= self._leave_at

    def _turn(self) -> None:
        """Wait until something can be read or written, and do it."""
        connection = self._connection
        engine = connection.socket.fileno() if connection is not None else -1
        poll = select.poll()
        if not self._client_left:
            poll.register(self._stdin, select.POLLIN if self._bytes_to_engine < HIGH_WATER_BYTES else 0)
        poll.register(self._stdout, select.POLLOUT if self._to_client else 0)
        if connection is not None:
            reading = select.POLLIN if self._bytes_to_client < HIGH_WATER_BYTES else 0
            sending = select.POLLOUT if self._sendable() else 0
            poll.register(engine, reading | sending)
        timeout_ms = max(0, int((self._leave_at - time.monotonic()) * 1000) + 1) if self._client_left else None
        for descriptor, events in poll.poll(timeout_ms):
            if descriptor == self._stdin:
                self._read_client()
            elif descriptor == self._stdout:
                if events & ~select.POLLOUT:
                    raise _ClientGone
                self._write_client()
            elif connection is not None and self._connection is connection:
                if events & select.POLLOUT:
                    self._write_engine(connection)
                if events & ~select.POLLOUT and self._connection is connection:
                    self._read_engine(connection)

    def _read_client(self) -> None:
        try:
            chunk = os.read(self._stdin, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._client_left = True
            self._leave_at = time.monotonic() + DRAIN_S
            unfinished = self._from_client.rest()
            chunk = unfinished + b"\n" if unfinished else b""
        for line in self._from_client.feed(chunk):
            if (outgoing := self._conversation.from_client(line)) is not None:
                self._to_engine.append(outgoing)
                self._bytes_to_engine += len(outgoing.line)

    def _sendable(self) -> bool:
        """Whether a line may go out: after a replayed `initialize`, none before its answer."""
        if self._takes_no_more:
            return False
        return bool(self._to_engine) and (self._to_engine[0].begun or not self._conversation.held)

    def _write_engine(self, connection: Connection) -> None:
        while self._sendable():
            outgoing = self._to_engine[0]
            try:
                sent = connection.socket.send(outgoing.rest)
            except BlockingIOError:
                return
            except OSError:
                # It is gone, and may have answered before: what it said last is still to be read, up to its end.
                self._takes_no_more = True
                return
            if not outgoing.begun:
                self._conversation.begun(outgoing)
            self._bytes_to_engine -= sent
            outgoing.rest = outgoing.rest[sent:]
            if outgoing.rest:
                return
            self._to_engine.popleft()

    def _read_engine(self, connection: Connection) -> None:
        try:
            chunk = connection.socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lose_engine()
            return
        for line in connection.buffer.feed(chunk):
            self._heard(line)

    def _heard(self, line: bytes) -> None:
        if (told := self._conversation.from_engine(line)) is not None:
            self._tell(told)

    def _tell(self, line: bytes) -> None:
        self._to_client.append(memoryview(line))
        self._bytes_to_client += len(line)

    def _write_client(self) -> None:
        """Write as much as a descriptor that is ready takes without blocking, whoever shares it."""
        piece = self._to_client[0][: select.PIPE_BUF]
        try:
            written = os.write(self._stdout, piece)
        except BlockingIOError:
            return
        except OSError as error:
            raise _ClientGone from error
        self._bytes_to_client -= written
        rest = self._to_client[0][written:]
        if rest:
            self._to_client[0] = rest
        else:
            self._to_client.popleft()

    def _lose_engine(self) -> None:
        """Forget the engine, tell the client what became of its requests, keep what was never sent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        lived_s = time.monotonic() - self._connected_at
        self._short_lives = self._short_lives + 1 if lived_s < SHORT_LIFE_S else 0
        cut_off = not self._half_closed or self._conversation.waiting
        told, kept = self._conversation.lost(self._to_engine)
        if cut_off:
            for line in told:
                self._tell(line)
        self._to_engine = deque(kept)
        self._bytes_to_engine = sum(len(outgoing.line) for outgoing in kept)

    def _attach(self, paths: StatePaths) -> None:
        """Find or start the engine. Raises `Refused`, and `EngineError` at the third failure within a minute."""
        self._flush()
        self._read_config()
        if self._short_lives > 1:
            time.sleep(min(SHORT_LIFE_PAUSE_S * 2 ** min(self._short_lives - 2, 10), MAX_PAUSE_S))
        while True:
            try:
                connection = open_connection(self._config, paths, self._environ, self._hello, command=self._command)
                break
            except Refused:
                raise
            except EngineError as error:
                if isinstance(error, StartFailed) and error.refused:
                    raise Refused(str(error)) from error
                now = time.monotonic()
                self._failures.append(now)
                while now - self._failures[0] > FAILED_STARTS_WINDOW_S:
                    self._failures.popleft()
                if len(self._failures) >= FAILED_STARTS:
                    raise
                time.sleep(START_PAUSE_S)
        if connection is None:
            raise EngineError("no engine, and none was to be started")
        self._take(connection)

    def _take(self, connection: Connection) -> None:
        for warning in (connection.answer.warning or "").splitlines():
            if warning not in self._warned:
                self._warned.add(warning)
                _say(f"warning: {warning}")
        connection.socket.setblocking(False)
        self._connection = connection
        self._connected_at = time.monotonic()
        self._takes_no_more = False
        replay = self._conversation.connected()
        self._to_engine.extendleft(reversed(replay))
        self._bytes_to_engine += sum(len(outgoing.line) for outgoing in replay)
        for line in connection.received:
            self._heard(line)

    def _flush(self) -> None:
        """Let the client have what is there for it, before a start that may take a while."""
        deadline = time.monotonic() + FLUSH_S
        poll = select.poll()
        poll.register(self._stdout, select.POLLOUT)
        while self._to_client and (left_s := deadline - time.monotonic()) > 0:
            for _, events in poll.poll(int(left_s * 1000) + 1):
                if events & ~select.POLLOUT:
                    raise _ClientGone
                self._write_client()

    def _read_config(self) -> bytes:
        try:
            return self._config.read_bytes()
        except OSError as error:
            raise Refused(f"cannot read the config {self._config}: {error.strerror}") from error

    def _hello(self) -> Hello:
        config = self._read_config()
        variables = variable_digests(config, self._environ)
        return Hello(AGENT, config_digest(config), variables, self._principal, version=VERSION)


def _stop(number: int, frame: object) -> None:
    raise _Stopped


def _say(message: str) -> None:
    """Tell whoever runs the client, if they can be told: a full disk may be what their log is on, too."""
    with suppress(OSError):
        print(f"holdfast: {message}", file=sys.stderr, flush=True)


def _cause(error: Exception) -> str:
    """What went wrong without the mend and the log, which are for whoever runs the client, not for its model."""
    return str(error).partition("\n")[0].partition("; ")[0]
