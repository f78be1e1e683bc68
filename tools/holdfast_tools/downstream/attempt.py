"""What became of one dispatch: not sent, sent and lost, or answered. There is no fourth."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing reached the downstream: it may be tried again. `reason` names the downstream and the cause.

    `overdue`: the call's deadline came first.
    """

    reason: str
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """It was sent, or may have been; no answer will come on this connection. `reason` names the downstream.

    `timed_out`: the connection is still there, and the answer may come late.
    """

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The downstream's answer: a wire `result`, or a JSON-RPC `error` (``{"code", "message", "data"?}``).

    `core_task`: the result is that of creating a task of 2025-11-25, ``{"task": {...}}``, which was asked for.
    """

    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    core_task: bool = False


Attempt = NotSent | Lost | Answered
