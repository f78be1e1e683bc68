"""The task methods, answered by the era that a request speaks: a middleware like that of the tools.

What an era does not have goes on to the SDK, which answers -32601.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, SERVER_INFO_META_KEY

from holdfast_server.mcp.caller import is_listening, is_modern, is_ready
from holdfast_server.mcp.capabilities import TASKS_EXTENSION
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.render import store_in_trouble
from holdfast_server.mcp.tasks.core import CoreTasks, advertised, speaks_core_tasks
from holdfast_server.mcp.tasks.extension import TasksExtension
from holdfast_server.mcp.url_elicitations import note_error
from holdfast_store.model.errors import StoreError
from holdfast_store.model.values import Json
from holdfast_tools.gateway import Gateway
from holdfast_tools.request import Reply

log = logging.getLogger("holdfast.tasks")

Answer = Callable[[Context], Awaitable[Json]]


class TaskMethods:
    """Answers `tasks/*` for both dialects, and tells of core tasks at `initialize`."""

    def __init__(self, gateway: Gateway, extension: TasksExtension, core: CoreTasks) -> None:
        self._gateway = gateway
        self._extension = extension
        self._server_info: Json = {}
        self._modern: dict[str, Answer] = {
            "tasks/get": self._extension_get,
            "tasks/update": extension.update,
            "tasks/cancel": extension.cancel,
        }
        self._legacy: dict[str, Answer] = {
            "tasks/get": core.get,
            "tasks/result": core.result,
            "tasks/list": core.list,
            "tasks/cancel": core.cancel,
        }

    def serve_on(self, server: Server[Any]) -> None:
        """Advertise tasks on `server`, and answer their methods there."""
        server.extensions[TASKS_EXTENSION] = {}
        self._server_info = server.server_info_stamp
        server.middleware.append(self)

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method == "initialize":
            result = await call_next(ctx)
            return advertised(result) if isinstance(result, dict) else result
        answer = self._answer(ctx)
        if answer is None or ctx.request_id is None:
            return await call_next(ctx)
        if not is_ready(ctx):
            raise MCPError(INVALID_PARAMS, "initialize first: this connection has not said which protocol it speaks")
        try:
            result = await answer(ctx)
        except MCPError as error:
            note_error(ctx, error)
            raise
        except StoreError as error:
            log.error("a task cannot be read", extra={"method": ctx.method, "error": str(error)})
            raise MCPError(INTERNAL_ERROR, store_in_trouble(error), {"code": error.code}) from error
        except Exception as error:
            log.exception("a request about a task could not be answered")
            raise MCPError(INTERNAL_ERROR, "Holdfast failed to answer this request; its log says why.") from error
        return self._stamped(result) if is_modern(ctx) else result

    def _answer(self, ctx: Context) -> Answer | None:
        if is_modern(ctx):
            return self._modern.get(ctx.method)
        return self._legacy.get(ctx.method) if speaks_core_tasks(ctx) else None

    async def _extension_get(self, ctx: Context) -> Json:
        """What carries an outcome counts as its delivery, where the client still listens."""
        task, call = await self._extension.get(ctx)
        if call.ended and await is_listening(ctx):
            self._gateway.delivered(Reply(call))
        return task

    def _stamped(self, result: Json) -> Json:
        """What every result of 2026-07-28 carries."""
        carried = {**result.get("_meta", {}), SERVER_INFO_META_KEY: self._server_info}
        return {"resultType": "complete", **result, "_meta": carried}
