"""One MCP endpoint in front of a set of tools, in every era, with schemas that pass untouched.

Requests are answered in a middleware: what it returns goes to the wire as it is, so neither a schema nor a result is
rewritten by models that know less than the server that wrote them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, SERVER_INFO_META_KEY, ListToolsResult, PaginatedRequestParams
from mcp_types.methods import validate_client_request
from pydantic import ValidationError

from holdfast_server.mcp.caller import caller_of, is_known, is_listening, is_modern, is_ready
from holdfast_server.mcp.capabilities import cacheable, declare
from holdfast_server.mcp.url_elicitations import note_error
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


class Passage(Protocol):
    """What passes through an endpoint besides tools."""

    async def serves(self, method: str) -> bool:
        """Whether a request of this method is answered here."""
        ...

    async def answer(self, ctx: Context) -> Json:
        """The result, in the form of the era that `ctx` speaks. Raises `MCPError`."""
        ...

    async def capabilities(self) -> Json:
        """What is declared besides tools."""
        ...

    def tool_hints(self) -> Json:
        """The cache hints for a listing of tools."""
        ...

    async def heard(self, ctx: Context) -> None:
        """A notification of a client came in."""
        ...

    def welcome(self, ctx: Context) -> None:
        """A session of the handshake era begins: its `initialize` was accepted."""
        ...


def build_server(
    name: str, title: str, instructions: str, toolset: Toolset, passage: Passage | None = None
) -> Server[Any]:
    """A low-level server for `toolset`, and for what goes through `passage`.

    The connection's lifespan state says who calls (see `caller`).
    """
    server: Server[Any] = Server(
        name,
        version=VERSION,
        title=title,
        instructions=instructions,
        on_list_tools=_answered_by_the_middleware,
        get_tool_input_schema=toolset.input_schema,
    )
    server.middleware.append(_Endpoint(toolset, passage, server.server_info_stamp))
    return server


async def _answered_by_the_middleware(ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    """Registered so that the tools capability is advertised."""
    raise RuntimeError("tools/list is answered before it reaches a handler")


class _Endpoint:
    """Answers the tool methods and what passes through; everything else goes on to the SDK."""

    def __init__(self, toolset: Toolset, passage: Passage | None, server_info: Json) -> None:
        self._toolset = toolset
        self._passage = passage
        self._server_info = server_info
        self._methods: dict[str, Callable[[Context], Awaitable[Json]]] = {
            "tools/list": self._list,
            "tools/call": self._call,
        }

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            if self._passage is not None and is_known(ctx):
                await self._passage.heard(ctx)
            return await call_next(ctx)
        caller_of(ctx)  # or whoever was taken out of the config could still look around
        if ctx.method in ("initialize", "server/discover"):
            return await self._declared(ctx, call_next)
        answer = self._methods.get(ctx.method)
        if answer is None:
            if not await self._passes(ctx):
                return await call_next(ctx)
            answer = self._relay
        if not is_ready(ctx):
            raise MCPError(INVALID_PARAMS, "initialize first: this connection has not said which protocol it speaks")
        try:
            return await answer(ctx)
        except MCPError as error:
            note_error(ctx, error)
            raise
        except ValidationError:
            raise
        except Exception as error:
            log.exception("a request could not be answered")
            raise MCPError(INTERNAL_ERROR, "Holdfast failed to answer this request; its log says why.") from error

    async def _declared(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        if self._passage is None or not isinstance(result, dict):
            return result
        offered = await self._passage.capabilities()
        if ctx.method == "initialize":
            self._passage.welcome(ctx)
        return declare(result, offered)

    async def _passes(self, ctx: Context) -> bool:
        """Whether the request passes through. Raises `ValidationError` where its params are not of the right shape."""
        if self._passage is None:
            return False
        try:
            validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
        except KeyError:
            return False
        return await self._passage.serves(ctx.method)

    async def _relay(self, ctx: Context) -> Json:
        assert self._passage is not None  # noqa: S101 - or nothing had passed
        return self._enveloped(ctx, await self._passage.answer(ctx))

    async def _list(self, ctx: Context) -> Json:
        result: Json = {"tools": list(await self._toolset.list_tools(ctx))}
        if is_modern(ctx):
            result |= cacheable(self._passage.tool_hints() if self._passage is not None else {})
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
