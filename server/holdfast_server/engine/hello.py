"""The one line with which a shim or a command opens a connection to the engine, and the one line that answers it.

    -> {"holdfast": 1, "version": "0.1.0", "endpoint": "agent", "config_digest": "...", "variables": {"KEY": "..."}}
    <- {"holdfast": 1, "ok": true, "engine": {"pid": 4711, "version": "0.1.0"}}

Then the connection is MCP, one JSON-RPC message per line. An engine that stops in good order says `GOODBYE` last: its
shims do not bring it back before their client asks for something. Standard library only, and nothing heavy of it.
"""

import json
import os
import re
from collections.abc import Mapping
from hashlib import sha256

PROTOCOL = 1
AGENT = "agent"
ADMIN = "admin"
GOODBYE = b'{"holdfast":"goodbye"}\n'
MAX_HELLO_BYTES = 65_536

_REFERENCE = re.compile(rb"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^}]*)?\}")
_COMMENT = re.compile(rb"(?m)^[ \t]*#.*$")


class BadHello(ValueError):
    """A line that is not a hello, or not one of this protocol. Its text is a sentence for the other end."""


class Hello:
    """Who connects, to which endpoint, and with which config in mind.

    `principal` is the id that `--as` named; None is the local caller. `token` opens the admin endpoint.
    `config_digest` is the SHA-256 in hex of the config's bytes, `variables` those of the variables it refers to,
    `version` that of the caller's Holdfast. Who takes the engine as it is gives "" for the digest and no version.
    """

    __slots__ = ("config_digest", "endpoint", "principal", "token", "variables", "version")

    def __init__(
        self,
        endpoint: str,
        config_digest: str,
        variables: Mapping[str, str],
        principal: str | None = None,
        token: str | None = None,
        version: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.config_digest = config_digest
        self.variables = variables
        self.principal = principal
        self.token = token
        self.version = version

    def line(self) -> bytes:
        message = {
            "holdfast": PROTOCOL,
            "version": self.version,
            "endpoint": self.endpoint,
            "principal": self.principal,
            "token": self.token,
            "config_digest": self.config_digest,
            "variables": dict(self.variables),
        }
        return json.dumps({name: value for name, value in message.items() if value is not None}).encode() + b"\n"


class Answer:
    """What the engine says to a hello.

    `ok`: the connection is served, `warning` goes to stderr. Not `ok` and `restart`: the engine ends now, so that the
    caller can start one of its own version, config and variables. Not `ok` otherwise: `error` says why it is refused.
    `protocol` is the number of the hello that the engine speaks.
    """

    __slots__ = ("error", "ok", "pid", "protocol", "restart", "version", "warning")

    def __init__(
        self,
        pid: int,
        version: str,
        *,
        ok: bool = True,
        warning: str | None = None,
        error: str | None = None,
        restart: bool = False,
        protocol: int = PROTOCOL,
    ) -> None:
        self.protocol = protocol
        self.pid = pid
        self.version = version
        self.ok = ok
        self.warning = warning
        self.error = error
        self.restart = restart

    def line(self) -> bytes:
        engine = {"pid": self.pid, "version": self.version}
        message: dict[str, object] = {"holdfast": self.protocol, "ok": self.ok, "engine": engine}
        if self.warning is not None:
            message["warning"] = self.warning
        if self.error is not None:
            message["error"] = self.error
        if self.restart:
            message["restart"] = True
        return json.dumps(message).encode() + b"\n"


def read_hello(line: bytes) -> Hello:
    """Decode a hello. Raises `BadHello`."""
    message = _object(line)
    version = message.get("version")
    if message.get("holdfast") != PROTOCOL:
        raise BadHello(
            f"the engine speaks protocol {PROTOCOL}, the caller {message.get('holdfast')!r} (Holdfast {version}): "
            "run `holdfast engine restart CONFIG` with the Holdfast that is to stay"
        )
    endpoint = message.get("endpoint")
    digest = message.get("config_digest")
    variables = message.get("variables", {})
    principal = message.get("principal")
    token = message.get("token")
    if (
        endpoint not in (AGENT, ADMIN)
        or not isinstance(digest, str)
        or not isinstance(principal, str | None)
        or not isinstance(token, str | None)
        or not isinstance(version, str | None)
        or not isinstance(variables, dict)
        or not all(isinstance(value, str) for value in variables.values())
    ):
        raise BadHello("a hello of the wrong shape")
    return Hello(endpoint, digest, variables, principal, token, version)


def read_answer(line: bytes) -> Answer:
    """Decode the answer to a hello. Raises `BadHello`."""
    message = _object(line)
    engine = message.get("engine")
    warning = message.get("warning")
    error = message.get("error")
    protocol = message.get("holdfast")
    if (
        not isinstance(message.get("ok"), bool)
        or not isinstance(engine, dict)
        or not isinstance(pid := engine.get("pid"), int)
        or not isinstance(version := engine.get("version"), str)
        or not isinstance(warning, str | None)
        or not isinstance(error, str | None)
        or not isinstance(protocol, int)
    ):
        raise BadHello("an answer of the wrong shape: is something else listening there?")
    ok, restart = message["ok"] is True, message.get("restart") is True
    return Answer(pid, version, ok=ok, warning=warning, error=error, restart=restart, protocol=protocol)


def config_digest(config: bytes) -> str:
    """SHA-256 in hex of a config's bytes."""
    return sha256(config).hexdigest()


def variable_digests(config: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 in hex of each variable that `config` refers to, found without parsing it.

    A variable that is unset or empty is left out. Lines that are only a comment do not count.
    """
    digests = {}
    for reference in _REFERENCE.finditer(_COMMENT.sub(b"", config)):
        if reference[1] and (value := environ.get(reference[1].decode())):
            digests[reference[1].decode()] = sha256(os.fsencode(value)).hexdigest()
    return digests


def differing_variables(mine: Hello, theirs: Hello) -> tuple[str, ...]:
    """The names of variables that two callers of one config set to different values, sorted.

    With equal configs, set and not set differ too; with other bytes, only what both refer to and set is compared.
    """
    if mine.config_digest == theirs.config_digest:
        names = mine.variables.keys() | theirs.variables.keys()
    else:
        names = mine.variables.keys() & theirs.variables.keys()
    return tuple(sorted(name for name in names if mine.variables.get(name) != theirs.variables.get(name)))


def _object(line: bytes) -> dict[str, object]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadHello("a hello is one line of JSON") from error
    if not isinstance(message, dict):
        raise BadHello("a hello is a JSON object")
    return message
