"""Which downstream: how it is reached, and the digest that a call's identity is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Isolation = Literal["shared", "principal"]
"""Whether principals may meet in one session, and so in one child process."""

DEFAULT_MAX_SESSIONS = 8
DEFAULT_MAX_CONCURRENCY = 128
DEFAULT_MAX_QUEUE = 1024


@dataclass(frozen=True, slots=True)
class StdioSpec:
    """A child process that speaks MCP on its stdio. `cwd` is absolute; `env` is added to a minimal environment."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class HttpSpec:
    """A streamable HTTP endpoint."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DownstreamSpec:
    """One entry of `mcpServers`. `connect_timeout_s` bounds spawn, handshake and the first listing together.

    With `isolation: principal` no two principals share a session, or a child process. `max_sessions` is how many
    sessions there are at most besides the one connection. `max_concurrency` calls are under way at once, and
    `max_queue` new ones may wait for their turn.
    """

    name: str
    transport: StdioSpec | HttpSpec
    connect_timeout_s: float = 30.0
    isolation: Isolation = "shared"
    max_sessions: int = DEFAULT_MAX_SESSIONS
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    max_queue: int = DEFAULT_MAX_QUEUE

    @property
    def identity(self) -> str:
        """Digest of command, args, cwd and env names, or of the url: values of secrets do not take part."""
        transport = self.transport
        if isinstance(transport, StdioSpec):
            parts = ["stdio", transport.command, list(transport.args), transport.cwd, sorted(transport.env)]
        else:
            parts = ["http", transport.url]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def describe(self) -> str:
        """The command line or url, for people."""
        transport = self.transport
        if isinstance(transport, StdioSpec):
            return " ".join((transport.command, *transport.args))
        return transport.url
