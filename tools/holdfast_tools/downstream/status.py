"""How a downstream is, as a value and in words."""

from dataclasses import dataclass
from typing import Literal

SHOWN_STDERR_LINES = 5

State = Literal["starting", "connected", "failed", "backoff", "stopped"]

_WORDS: dict[State, str] = {
    "starting": "is still starting",
    "connected": "has just lost its connection",
    "failed": "could not be connected",
    "backoff": "lost its connection and is being connected again",
    "stopped": "is stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamStatus:
    """How a downstream is. `since` is in seconds since the epoch; `attempts` counts tries since it was last connected.

    `starting`: the first connection is being made. `failed`: the last try to connect failed; more follow. `backoff`:
    it was connected, and is about to be again. `reason` says what went wrong last, where something did.
    """

    state: State
    since: float
    protocol_version: str | None = None
    server_name: str | None = None
    attempts: int = 0
    reason: str | None = None
    stderr_tail: tuple[str, ...] = ()
    pid: int | None = None


def unavailable(name: str, status: DownstreamStatus) -> str:
    """Why nothing can be sent now: the downstream, its state, the cause, and what the child said last."""
    cause = f": {status.reason}" if status.reason else ""
    return with_stderr(f"the downstream {name!r} {_WORDS[status.state]}{cause}", status.stderr_tail)


def with_stderr(text: str, tail: tuple[str, ...]) -> str:
    """`text`, and below it the last lines that a child wrote to stderr."""
    if not tail:
        return text
    lines = "".join(f"\n  {line}" for line in tail[-SHOWN_STDERR_LINES:])
    return f"{text}; its last lines on stderr:{lines}"
