"""What watching a task consists of: questions to its downstream, and what the answers amount to."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from holdfast_store.model.values import Json, RemoteTask
from holdfast_tools.downstream.answers import created_task
from holdfast_tools.downstream.attempt import Answered, Attempt
from holdfast_tools.downstream.session import OnAsk

NO_SUCH_THING = -32002
"""How servers of the handshake era say so as well (specification 2025-11-25, resources)."""

SHORTEST_POLL_S = 0.05
LONGEST_POLL_S = 30.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The downstream's task was cancelled; `reason` is its own word for it."""

    reason: str


Found = Attempt | Cancelled

FINAL = frozenset({INVALID_PARAMS, METHOD_NOT_FOUND, NO_SUCH_THING})
"""Errors by which a downstream says that it does not know the task, or tasks at all: asking again is of no use."""

Keep = Callable[[RemoteTask], Awaitable[None]]
"""Stores what is known of the task by now."""


class Ask(Protocol):
    """Sends one request about the task to its downstream; `on_ask` answers what that asks meanwhile.

    Raises MCPError with the downstream's own error, and DownstreamError where no answer came.
    """

    async def __call__(self, method: str, members: Json, on_ask: OnAsk | None = None) -> Json: ...


class Dialect(Protocol):
    """How one era speaks of tasks."""

    @property
    def poll_s(self) -> float | None:
        """How often the downstream wants to be asked, where it said so."""
        ...

    async def step(self) -> Found | None:
        """Ask once; None while the task works. Raises as `Ask` does."""
        ...

    async def cancel(self) -> None:
        """Have the downstream cancel its task. Raises as `Ask` does."""
        ...

    async def leave(self) -> None:
        """Wait for nothing more."""
        ...


def remote_task_of(attempt: Attempt) -> RemoteTask | None:
    """The task that a downstream answered with, or None."""
    task_id = created_task(attempt) if isinstance(attempt, Answered) else None
    if task_id is None or not isinstance(attempt, Answered) or attempt.result is None:
        return None
    if attempt.core_task:
        return RemoteTask(task_id, interval_s(attempt.result["task"], "pollInterval"), core=True)
    return RemoteTask(task_id, interval_s(attempt.result, "pollIntervalMs"))


def interval_s(task: Mapping[str, Any], member: str) -> float | None:
    """How often to ask, as the downstream wants it in milliseconds, within reason."""
    interval_ms = task.get(member)
    if not isinstance(interval_ms, int | float) or isinstance(interval_ms, bool):
        return None
    return min(LONGEST_POLL_S * 1000, max(SHORTEST_POLL_S * 1000, interval_ms)) / 1000
