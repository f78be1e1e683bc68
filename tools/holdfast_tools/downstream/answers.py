"""What a downstream's answer means for the attempt that asked for it."""

import math
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION

from holdfast_tools import sdk
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.link import Exchange

REFUSED_UNRUN = frozenset({HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION})
"""Errors by which a server of the stateless era says that it did not look at the call, because what we know of it is
out of date (specification 2026-07-28): the call may be sent again once that is mended."""


def attempt_of_error(name: str, error: MCPError, exchange: Exchange, why_over: str, *, modern: bool) -> Attempt:
    """What an error amounts to: the server's own answer, or no answer at all.

    `name` is the downstream's, `why_over` says why its connection ended, should it have.
    """
    match exchange.verdict:
        case NotSent(reason):
            return NotSent(f"{name}: {reason}")
        case Lost(reason):
            return Lost(f"{name}: {reason}")
    if modern and error.code in REFUSED_UNRUN:
        return NotSent(f"{name}: what is known of it is out of date ({error.message})")
    if sdk.made_up(error):
        reason = why_over if error.message == "Connection closed" else error.message
        return unanswered(name, reason, exchange)
    answer: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.error.data is not None:
        answer["data"] = finite(error.error.data)
    return Answered(error=answer)


def unanswered(name: str, reason: str, exchange: Exchange) -> Attempt:
    """Without an answer, what counts is whether anything was sent."""
    return Lost(f"{name}: {reason}") if exchange.sent else NotSent(f"{name}: {reason}")


def created_task(answer: Answered) -> str | None:
    """The id of the task that the downstream made of a call, in either era; None for any other answer."""
    result = answer.result or {}
    if answer.core_task:
        result = result["task"] if isinstance(result["task"], dict) else {}
    elif result.get("resultType") != "task":
        return None
    task_id = result.get("taskId")
    return task_id if isinstance(task_id, str) else None


def declares(capabilities: Any, *path: str) -> bool:
    """Whether there is a mapping at the end of `path`."""
    for name in path:
        capabilities = capabilities.get(name) if isinstance(capabilities, dict) else None
    return isinstance(capabilities, dict)


def finite(value: Any) -> Any:
    """`value` with null for each number that JSON cannot carry (some servers write NaN); itself where there is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        changed = {key: kept for key, item in value.items() if (kept := finite(item)) is not item}
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [finite(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
