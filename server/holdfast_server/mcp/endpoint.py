"""One MCP endpoint in front of a set of tools, in every era, with schemas that pass untouched.

`tools/list` and `tools/call` are answered in a middleware: what it returns goes to the wire as it is, so neither a
schema nor a result is rewritten by models that know less than the server that wrote them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, SERVER_INFO_META_KEY, ListToolsResult, PaginatedRequestParams

from holdfast_server.mcp.caller import is_listening, is_modern, is_ready
from holdfast_server.version import VERSION
from holdfast_store.model.values import Json

log = logging.getLogger("holdfast.endpoint")

Context = ServerRequestContext[Any, Any]


class Toolset(Protocol):
    """What an endpoint serves."""

    async def list_tools(self, ctx: Context) -> Sequence[Json]:
        """The tools as they go to the wire."""
        ...

    async def call_tool(self, ctx: Context) -> tuple[Json, Callable[[], None] | None]:
        """The result of `ctx.params`, and what to do once it is on its way to a client that still waits."""
        ...

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """The input schema of one tool, for the header checks of the 2026 era."""
        ...


def build_server(name: str, title: str, instructions: str, toolset: Toolset) -> Server[Any]:
    """A low-level server for `toolset`. The connection's lifespan state says who calls (see `caller`)."""
    server: Server[Any] = Server(
        name,
        version=VERSION,
        title=title,
        instructions=instructions,
        on_list_tools=_answered_by_the_middleware,
        get_tool_input_schema=toolset.input_schema,
    )
    server.middleware.append(_Tools(toolset, server.server_info_stamp))
    return server


async def _answered_by_the_middleware(ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    """Registered so that the tools capability is advertised."""
    raise RuntimeError("tools/list is answered before it reaches a handler")


class _Tools:
    """Answers the two tool methods; everything else goes on to the SDK."""

    def __init__(self, toolset: Toolset, server_info: Json) -> None:
        self._toolset = toolset
        self._server_info = server_info
        self._methods: dict[str, Callable[[Context], Awaitable[Json]]] = {
            "tools/list": self._list,
            "tools/call": self._call,
        }

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        answer = self._methods.get(ctx.method)
        if answer is None or ctx.request_id is None:
            return await call_next(ctx)
        if not is_ready(ctx):
            raise MCPError(INVALID_PARAMS, "initialize first: this connection has not said which protocol it speaks")
        try:
            return await answer(ctx)
        except MCPError:
            raise
        except Exception as error:
            log.exception("a request could not be answered")
            raise MCPError(INTERNAL_ERROR, "Holdfast failed to answer this request; its log says why.") from error

    async def _list(self, ctx: Context) -> Json:
        result: Json = {"tools": list(await self._toolset.list_tools(ctx))}
        if is_modern(ctx):
            result |= {"ttlMs": 0, "cacheScope": "private"}
        return self._enveloped(ctx, result)

    async def _call(self, ctx: Context) -> Json:
        result, on_its_way = await self._toolset.call_tool(ctx)
        if on_its_way is not None and await is_listening(ctx):
            on_its_way()
        return self._enveloped(ctx, result)

    def _enveloped(self, ctx: Context, result: Json) -> Json:
        """What every result of an era carries (specification 2026-07-28, `Result`), and nothing of the other era's.

        Who answers is Holdfast: a downstream's own stamp does not go through.
        """
        carried = dict(result.get("_meta") or {})
        if is_modern(ctx):
            result.setdefault("resultType", "complete")
            carried[SERVER_INFO_META_KEY] = self._server_info
        else:
            result.pop("resultType", None)
            carried.pop(SERVER_INFO_META_KEY, None)
        if carried:
            result["_meta"] = carried
        return result
