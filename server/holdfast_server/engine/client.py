"""Asks the engine on behalf of a command: one admin tool at a time, over the local socket. Standard library only.

It speaks MCP 2026-07-28, whose requests need no session: each carries who asks in `params._meta`.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast_server.engine.admin_token import read_admin_token
from holdfast_server.engine.connection import (
    CHUNK_BYTES,
    Connection,
    CutOff,
    connect_socket,
    open_connection,
    say_hello,
)
from holdfast_server.engine.hello import ADMIN, Hello, config_digest, variable_digests
from holdfast_server.engine.paths import StatePaths, prepare, state_paths
from holdfast_server.version import VERSION
from holdfast_store.model.errors import EngineError, HoldfastError
from holdfast_store.model.values import Json

PROTOCOL_VERSION = "2026-07-28"
CALL_TIMEOUT_S = 60.0
ENDING_TIMEOUT_S = 5.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A living engine, and the number of the hello that it speaks."""

    pid: int
    version: str
    protocol: int


class EngineClient:
    """A connection to the admin endpoint of one engine. Not for several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = 0
        answer = connection.answer
        self.engine = EngineInfo(answer.pid, answer.version, answer.protocol)
        self.warning = answer.warning

    def call_tool(self, name: str, arguments: Mapping[str, Any], timeout_s: float = CALL_TIMEOUT_S) -> Json:
        """Call an admin tool; its structured content.

        Raises the error that the tool names by its code (`NotFound`, `AccessDenied`, `WrongState`, ...), and
        `EngineError` where the engine does not answer within `timeout_s` seconds or answers otherwise.
        """
        self._requests += 1
        request = {
            "jsonrpc": "2.0",
            "id": self._requests,
            "method": "tools/call",
            "params": {
                "name": name,
                "arguments": dict(arguments),
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
                    "io.modelcontextprotocol/clientInfo": {"name": "holdfast", "version": self.engine.version},
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        }
        try:
            answer = self._exchange(json.dumps(request).encode() + b"\n", time.monotonic() + timeout_s)
        except TimeoutError as error:
            raise EngineError(f"the engine did not answer {name} within {timeout_s:g} s") from error
        except OSError as error:
            raise EngineError(f"the engine cut the connection: {error.strerror or error}") from error
        return _structured(name, answer)

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until the engine closes the connection, as it does when it has stopped; False when the time is up."""
        deadline = time.monotonic() + timeout_s
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                self._connection.socket.settimeout(left_s)
                if not self._connection.socket.recv(CHUNK_BYTES):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def _exchange(self, request: bytes, deadline: float) -> Json:
        """Send a line, and wait for the answer to the request in hand. Raises `OSError`."""
        self._connection.socket.settimeout(max(0.0, deadline - time.monotonic()) or None)
        self._connection.socket.sendall(request)
        lines, self._connection.received = self._connection.received, []
        while True:
            for line in lines:
                message = json.loads(line)
                if isinstance(message, dict) and message.get("id") == self._requests and "method" not in message:
                    return message
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.socket.settimeout(left_s)
            chunk = self._connection.socket.recv(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("it closed without an answer")
            lines = self._connection.buffer.feed(chunk)


@contextmanager
def connect(
    config: Path, *, token: str | None = None, start: bool = True, environ: Mapping[str, str] | None = None
) -> Iterator[EngineClient]:
    """A client of the engine of `config`, which is started where none lives.

    `token`: an approver's own; None is the operator's, out of the state folder. Without `start` the engine is taken
    as it is, whatever its version and config. Raises `EngineError` where there is no engine and `start` is false, where
    it cannot be started or reached, and where it refuses the token.
    """
    environment = os.environ if environ is None else environ
    paths = prepare(config, environment)

    def hello() -> Hello:
        asked_with = token or read_admin_token(paths.token)
        if not start:
            return _any_engine(asked_with)
        content = _content(config)
        variables = variable_digests(content, environment)
        return Hello(ADMIN, config_digest(content), variables, token=asked_with, version=VERSION)

    if start:
        _content(config)

    connection = open_connection(config, paths, environment, hello, start=start)
    if connection is None:
        raise EngineError(f"no engine of {config} is running; start it with `holdfast engine restart {config}`")
    try:
        yield EngineClient(connection)
    finally:
        connection.close()


def engine_alive(config: Path, environ: Mapping[str, str] | None = None) -> EngineInfo | None:
    """The living engine of `config`, or None. Starts nothing, needs no token.

    Raises `EngineError` where something listens that does not answer.
    """
    paths: StatePaths = state_paths(config, os.environ if environ is None else environ)
    deadline = time.monotonic() + ENDING_TIMEOUT_S
    while (connected := connect_socket(paths.socket)) is not None:
        with connected:
            try:
                answer = say_hello(connected, _any_engine(None)).answer
            except CutOff:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return EngineInfo(answer.pid, answer.version, answer.protocol)
    return None


def _any_engine(token: str | None) -> Hello:
    """The hello of who takes the engine as it is."""
    return Hello(ADMIN, "", {}, token=token)


def _content(config: Path) -> bytes:
    try:
        return config.read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the config {config}: {error.strerror}") from error


def _structured(name: str, answer: Json) -> Json:
    if "error" in answer:
        error = answer["error"]
        data = error.get("data")
        raise _error(data.get("code") if isinstance(data, dict) else None, error.get("message", "it gave no reason"))
    result = answer.get("result", {})
    structured = result.get("structuredContent")
    if not result.get("isError"):
        if isinstance(structured, dict):
            return structured
        raise EngineError(f"the engine's answer to {name} has no structured content")
    named = structured.get("error") if isinstance(structured, dict) else None
    if isinstance(named, dict):
        raise _error(named.get("code"), str(named.get("message")))
    texts = [block["text"] for block in result.get("content", ()) if block.get("type") == "text"]
    raise EngineError("\n".join(texts) or f"{name} failed and gave no reason")


def _error(code: str | None, message: str) -> HoldfastError:
    """The error that `code` stands for; `EngineError` where it stands for none that is known here."""
    return next((kind for kind in _errors(HoldfastError) if kind.code == code), EngineError)(message)


def _errors(kind: type[HoldfastError]) -> Iterator[type[HoldfastError]]:
    """`kind` and those beneath it, as far as the errors' own module declares them: others have other signatures."""
    if kind.__module__ == HoldfastError.__module__:
        yield kind
        for below in kind.__subclasses__():
            yield from _errors(below)
