"""What an agent sees: the tools of all downstreams, and the plain tools that follow a call by its id."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from holdfast_server.mcp.caller import caller_of
from holdfast_server.mcp.decode import decode_call
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.handles import Handles
from holdfast_server.mcp.render import refusal, render
from holdfast_store.model.errors import CallError, HoldfastError, StoreError, UnknownTool
from holdfast_store.model.values import Json
from holdfast_tools.catalog import Catalog
from holdfast_tools.gateway import Gateway

log = logging.getLogger("holdfast.agent")

_STORE_IN_TROUBLE = (
    "Nothing ran for this request: Holdfast cannot use its store at the moment. Somebody who runs it must look at its "
    "log; the same request may be sent again later."
)
"""What a model reads of a `StoreError`, whose own sentence names paths."""


class AgentToolset:
    """The tools of `/mcp` and of an agent's stdio. Nothing of the admin endpoint is reachable from here."""

    def __init__(self, gateway: Gateway, catalog: Catalog, handles: Handles) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._handles = handles
        self._listed: tuple[int, list[Json]] = (-1, [])

    async def list_tools(self, ctx: Context) -> Sequence[Json]:
        """Every tool of every downstream, as it described it; waits for downstreams nothing is known of yet."""
        await self._gateway.settle_catalog()
        version, listed = self._listed
        if version != self._catalog.version:
            listed = [tool.wire() for tool in self._catalog.tools()] + self._handles.definitions()
            self._listed = (self._catalog.version, listed)
        return listed

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        tool = self._catalog.get(name)
        return tool.definition.get("inputSchema") if tool is not None else None

    async def call_tool(self, ctx: Context) -> tuple[Json, Callable[[], None] | None]:
        request = decode_call(ctx, caller_of(ctx))
        try:
            if self._handles.owns(request.tool):
                return await self._handles.call(request)
            reply = await self._gateway.call(request)
        except UnknownTool as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except CallError as error:
            return refusal(str(error), error.code), None
        except StoreError as error:
            log.error("a request could not be served", extra={"tool": request.tool, "error": str(error)})
            raise MCPError(INTERNAL_ERROR, _STORE_IN_TROUBLE, {"code": error.code}) from error
        except HoldfastError as error:
            return refusal(str(error), error.code), None
        tool = self._catalog.get(request.tool)
        has_output_schema = tool is not None and "outputSchema" in tool.definition
        return render(reply, has_output_schema=has_output_schema), lambda: self._gateway.delivered(reply)
