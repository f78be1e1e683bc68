"""What an agent sees: the tools of all downstreams, and the plain tools that follow a call by its id."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from holdfast_server.mcp.caller import caller_of, is_listening
from holdfast_server.mcp.client_profile import profile_of
from holdfast_server.mcp.decode import decode_call
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.handles import Handles
from holdfast_server.mcp.relay_stream import caller_stream
from holdfast_server.mcp.render import protocol_error, refusal, store_in_trouble, with_record
from holdfast_server.mcp.results import Results
from holdfast_server.mcp.rounds import input_required, refused_state
from holdfast_server.mcp.structured import described
from holdfast_server.mcp.tasks.core import speaks_core_tasks, with_task_support
from holdfast_server.mcp.tasks.offer import Offer, Offers
from holdfast_server.mcp.tasks.waiting import told_inline
from holdfast_store.model.errors import CallError, HoldfastError, StoreError, UnknownTool
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json
from holdfast_tools.catalog import Catalog, Tool
from holdfast_tools.gateway import Gateway
from holdfast_tools.request import CallRequest
from holdfast_tools.rounds import InvalidRequestState

log = logging.getLogger("holdfast.agent")

Answer = tuple[Json, Callable[[], None] | None]
"""A result, and what to do once it is on its way to a client that still waits."""


class AgentToolset:
    """The tools of `/mcp` and of an agent's stdio. Nothing of the admin endpoint is reachable from here."""

    def __init__(self, gateway: Gateway, catalog: Catalog, handles: Handles, offers: Offers, results: Results) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._handles = handles
        self._offers = offers
        self._results = results
        self._listed: dict[str, tuple[int, list[tuple[Tool, Json]]]] = {}

    async def list_tools(self, ctx: Context) -> Sequence[Json]:
        """Every tool that is for this client, as it was described; waits for downstreams nothing is known of yet."""
        client = profile_of(ctx)
        await self._gateway.settle_catalog(client=client)
        version, listed = self._listed.get(ctx.protocol_version, (-1, []))
        if version != self._catalog.version:
            listed = [(tool, _described(ctx, tool)) for tool in self._catalog.tools()]
            self._listed[ctx.protocol_version] = (self._catalog.version, listed)
        return [described for tool, described in listed if tool.is_for(client)] + self._handles.definitions()

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        tool = self._catalog.get(name)
        return tool.definition.get("inputSchema") if tool is not None else None

    async def call_tool(self, ctx: Context) -> Answer:
        caller = caller_of(ctx)

        async def look(call_id: str) -> Call:
            return await self._handles.find(call_id, caller)

        async with caller_stream(ctx, profile_of(ctx)) as stream, told_inline(look, stream):
            return await self._answer(ctx, decode_call(ctx, caller, stream))

    async def _answer(self, ctx: Context, request: CallRequest) -> Answer:
        try:
            if self._handles.owns(request.tool):
                return await self._handles.call(request)
            return await self._call(ctx, request, await self._offer(ctx, request))
        except UnknownTool as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except InvalidRequestState as error:
            raise refused_state(str(error)) from error
        except CallError as error:
            return refusal(str(error), error.code, error.retry_after_s), None
        except StoreError as error:
            log.error("a request could not be served", extra={"tool": request.tool, "error": str(error)})
            raise MCPError(INTERNAL_ERROR, store_in_trouble(error), {"code": error.code}) from error
        except HoldfastError as error:
            return refusal(str(error), error.code), None

    async def _call(self, ctx: Context, request: CallRequest, offer: Offer) -> Answer:
        """Raises what `Gateway.call` raises, and `MCPError` where the outcome is an error of the protocol itself."""
        takes_task = offer.create is not None
        reply = await self._gateway.call(replace(request, at_once=offer.at_once, takes_task=takes_task))
        call = reply.call
        if call.state is State.WAITING_FOR_INPUT and request.client.is_modern and not offer.at_once:
            asked = input_required(call, self._gateway.request_state(call))
            return with_record(asked, reply), lambda: self._gateway.handed_over(call)
        if offer.create is not None and (offer.at_once or not call.ended):
            return with_record(offer.create(call), reply), lambda: self._gateway.handed_over(call)
        error = protocol_error(call)
        if error is not None:
            if await is_listening(ctx):
                self._gateway.delivered(reply)
            raise error
        result = self._results.render(reply, protocol_version=request.client.protocol_version, promised=True)
        return result, lambda: self._gateway.delivered(reply)

    async def _offer(self, ctx: Context, request: CallRequest) -> Offer:
        """What this client may be answered with. Of a tool that is not known the gateway tells why."""
        if self._catalog.get(request.tool) is None:
            await self._gateway.settle_catalog(request.tool, request.client)
        tool = self._catalog.get(request.tool)
        return self._offers.of(ctx, tool.name, tool.settings.task) if tool is not None else Offer()


def _described(ctx: Context, tool: Tool) -> Json:
    """A tool as clients of the version of `ctx` are told of it."""
    definition = described(tool.wire(), ctx.protocol_version)
    return with_task_support(definition, tool.settings.task) if speaks_core_tasks(ctx) else definition
