"""Core tasks of 2025-11-25, as their client (specification 2025-11-25, basic/utilities/tasks).

A task that needs input says so in its status; whoever then waits for its result is asked, by requests of the server on
the session in which it waits. So the wait begins with that status, and goes on until the task has ended.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

from mcp.shared.exceptions import MCPError

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json, RemoteTask
from holdfast_tools.catalog import Tool
from holdfast_tools.downstream.attempt import Answered, Lost
from holdfast_tools.downstream.interactive import RELATED_TASK
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.remote.asking import FINAL, Ask, Cancelled, Found, interval_s

log = logging.getLogger("holdfast.remote")

KEPT_MS = 24 * 3600 * 1000
"""How long a server is asked to keep a task: as long as Holdfast may be away and still find what came of it."""


def asked_as_task(tool: Tool, *, offered: bool) -> Json:
    """What the params of a call hold so that its downstream makes a task of it; nothing where it shall not.

    `offered`: the server declares that it makes tasks. A tool that requires it is called in no other way. One that
    merely can is called so for a write, because its task clears the doubt that a lost answer leaves; not where the
    config says `task: never`.
    """
    execution = tool.definition.get("execution")
    support = execution.get("taskSupport") if isinstance(execution, dict) else None
    wants = support == "optional" and not tool.annotations.read_only and tool.settings.task != "never"
    return {"task": {"ttl": KEPT_MS}} if offered and (support == "required" or wants) else {}


class CoreTask:
    """A task of the downstream `name`; `on_ask` answers what it asks."""

    def __init__(self, name: str, task: RemoteTask, ask: Ask, on_ask: OnAsk) -> None:
        self._name = name
        self._task = task
        self._ask = ask
        self._on_ask = on_ask
        self._result: asyncio.Task[Json] | None = None

    @property
    def poll_s(self) -> float | None:
        return self._task.poll_s

    async def step(self) -> Found | None:
        refusal = await self._refusal()
        if refusal is not None and refusal.code not in FINAL:
            raise refusal
        task = await self._ask("tasks/get", {})
        self._task = replace(self._task, poll_s=interval_s(task, "pollInterval") or self._task.poll_s)
        match task.get("status"):
            case "working":
                return None
            case "input_required" if refusal is not None:
                return Lost(f"{self._name} wants input for its task and does not say which: {refusal.message}")
            case "input_required":
                if self._result is None:
                    self._result = asyncio.create_task(self._ask("tasks/result", {}, self._on_ask))
                return None
            case "cancelled":
                return Cancelled(str(task.get("statusMessage") or f"{self._name} cancelled its task"))
            case "completed" | "failed" as status:
                return await self._outcome(status)
            case status:
                return Lost(f"{self._name} says of its task what makes no sense: its status is {status!r}")

    async def cancel(self) -> None:
        await self._ask("tasks/cancel", {})

    async def leave(self) -> None:
        waited, self._result = self._result, None
        if waited is not None:
            waited.cancel()
            await asyncio.wait((waited,))
            if not waited.cancelled() and waited.exception() is not None:
                log.debug("%s: nobody needs the result of a task any more", self._name, exc_info=waited.exception())

    async def _refusal(self) -> MCPError | None:
        """What the server refused the wait for the result with; a wait that was cut off is begun again."""
        if self._result is None or not self._result.done():
            return None
        error = self._result.exception()
        if error is not None:
            self._result = None
        if error is not None and not isinstance(error, MCPError | DownstreamError):
            raise error
        return error if isinstance(error, MCPError) else None

    async def _outcome(self, status: str) -> Found:
        """The result of a task that has ended: what the call itself would have been answered with."""
        waited, self._result = self._result, None
        try:
            return Answered(result=_without_task(await (waited or self._ask("tasks/result", {}))))
        except MCPError as error:
            if status == "completed" and error.code not in FINAL:
                raise
            if status == "completed":
                return Lost(f"{self._name} says that its task is completed and gives no result: {error.message}")
            answer: dict[str, Any] = {"code": error.code, "message": error.message}
            if error.error.data is not None:
                answer["data"] = error.error.data
            return Answered(error=answer)


def _without_task(result: Json) -> Json:
    """`result` without the name of the server's own task, which is nothing to whoever made the call."""
    meta = result.get("_meta")
    if not isinstance(meta, dict) or RELATED_TASK not in meta:
        return result
    kept = {key: value for key, value in meta.items() if key != RELATED_TASK}
    return {**result, "_meta": kept} if kept else {key: value for key, value in result.items() if key != "_meta"}
