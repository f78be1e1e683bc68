"""Whether a `tools/call` may be answered with a task, in which dialect, and when."""

from collections.abc import Callable
from dataclasses import dataclass

from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND

from holdfast_server.mcp.caller import is_modern
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.tasks.core import CoreTasks, asks_for_task, speaks_core_tasks
from holdfast_server.mcp.tasks.extension import TasksExtension, declares_tasks, missing_extension
from holdfast_store.model.values import Call, Json
from holdfast_tools.settings import TaskUse


@dataclass(frozen=True, slots=True)
class Offer:
    """How the client of one call may be answered.

    `create` makes a task of a call that is still open; None: this client is given a handle in words. With `at_once`
    the call becomes a task whatever happens, without waiting for its outcome.
    """

    create: Callable[[Call], Json] | None = None
    at_once: bool = False


class Offers:
    """Chooses by what the client declares or asks for, never by who it says it is."""

    def __init__(self, extension: TasksExtension, core: CoreTasks) -> None:
        self._extension = extension
        self._core = core

    def of(self, ctx: Context, tool: str, use: TaskUse) -> Offer:
        """Raises `MCPError` where the tool demands a task that this client does not speak of, or the reverse."""
        if is_modern(ctx):
            return self._modern(ctx, tool, use)
        if speaks_core_tasks(ctx):
            asked = asks_for_task(ctx, tool, use)
            return Offer(self._core.created, at_once=True) if asked else Offer()
        if use == "required":
            raise MCPError(METHOD_NOT_FOUND, f"{tool} can only be called as a task, by a client that speaks of tasks")
        return Offer()

    def _modern(self, ctx: Context, tool: str, use: TaskUse) -> Offer:
        declared = declares_tasks(ctx.params)
        if use == "required" and not declared:
            raise missing_extension(tool)
        if use == "never" or not declared:
            return Offer()
        return Offer(self._extension.created, at_once=use in ("always", "required"))
