"""Watching a downstream's own task to its end.

The watch only asks and tells; what it finds is an attempt like any other. So it can be left and begun again, by this
engine or the next, without the tool being called again.
"""

import asyncio
import logging
from dataclasses import dataclass

import anyio
from mcp.shared.exceptions import MCPError

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json, RemoteTask
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Lost
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.remote.asking import FINAL, Ask, Dialect, Found, Keep
from holdfast_tools.remote.core import CoreTask
from holdfast_tools.remote.extension import ExtensionTask
from holdfast_tools.rounds import asks

log = logging.getLogger("holdfast.remote")

USUAL_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Left:
    """The watch was left before its task ended."""


def asker(downstream: Downstream, task: RemoteTask, client: ClientProfile, holder: str) -> Ask:
    """How to ask about `task` on behalf of `client`, in the sessions of `holder`."""

    async def ask(method: str, members: Json, on_ask: OnAsk | None = None) -> Json:
        params = {"taskId": task.id, **members}
        return await downstream.request(method, params, client=client, holder=holder, on_ask=on_ask)

    return ask


def dialect_of(downstream: Downstream, task: RemoteTask, ask: Ask, answers: Json, keep: Keep, on_ask: OnAsk) -> Dialect:
    """The dialect of the era that the task was made in."""
    name = downstream.spec.name
    return CoreTask(name, task, ask, on_ask) if task.core else ExtensionTask(name, task, ask, answers, keep)


class Watch:
    """One task of one downstream.

    `away_s`: how long nothing may be heard of the task; and how long one that was to be cancelled may go on asking for
    input, which nobody will give any more.
    """

    def __init__(self, downstream: Downstream, dialect: Dialect, away_s: float) -> None:
        self._name = downstream.spec.name
        self._dialect = dialect
        self._away_s = away_s
        self._poked = asyncio.Event()
        self._cancel = False
        self._cancelled_at: float | None = None
        self._left = False

    def cancel(self) -> None:
        """Have the downstream cancel its task; what it makes of that, the watch will see."""
        self._cancel = True
        self._poked.set()

    def leave(self) -> None:
        """Stop watching; the task goes on."""
        self._left = True
        self._poked.set()

    async def run(self) -> Found | Left:
        """Watch until there is an outcome, or a question that was not answered yet."""
        reached_at = anyio.current_time()
        try:
            while not self._left:
                self._poked.clear()
                try:
                    found = await self._step()
                    reached_at = anyio.current_time()
                except (MCPError, DownstreamError) as error:
                    if isinstance(error, MCPError) and error.code in FINAL:
                        return Lost(f"{self._name} does not answer for its task any more: {error.message}")
                    if anyio.current_time() - reached_at > self._away_s:
                        return Lost(f"its task cannot be watched any more: {error}")
                    log.info("a task cannot be watched at the moment", extra={"error": str(error)})
                    found = None
                if found is not None:
                    return found
                with anyio.move_on_after(self._dialect.poll_s or USUAL_POLL_S):
                    await self._poked.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._dialect.leave()
        return Left()

    async def _step(self) -> Found | None:
        if self._cancel:
            await self._ask_to_cancel()
        found = await self._dialect.step()
        hushed = self._cancelled_at is not None and anyio.current_time() - self._cancelled_at <= self._away_s
        return None if hushed and asks(found) else found

    async def _ask_to_cancel(self) -> None:
        """Asked again with the next step, unless the downstream took it, or said that nothing is left to cancel."""
        if self._cancelled_at is None:
            self._cancelled_at = anyio.current_time()
        try:
            await self._dialect.cancel()
            self._cancel = False
        except MCPError as error:
            self._cancel = error.code not in FINAL
            log.info("%s did not cancel its task", self._name, extra={"error": str(error)})


async def cancel_remote(downstream: Downstream, task: RemoteTask, client: ClientProfile, holder: str) -> None:
    """Tell the downstream that nobody waits for its task any more, where it can be reached."""
    try:
        await asker(downstream, task, client, holder)("tasks/cancel", {})
    except (MCPError, DownstreamError) as error:
        log.info("a task could not be cancelled", extra={"task": task.id, "error": str(error)})
    downstream.forget_task(task.id)
