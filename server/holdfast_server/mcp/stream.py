"""MCP over a pair of byte streams: a shim's socket, or this process's own stdio."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
from mcp.server.lowlevel.server import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.dispatcher import as_request_id
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)

from holdfast_server.engine.lines import Overlong
from holdfast_server.mcp.caller import Caller
from holdfast_server.mcp.wire import Refused, TooLong, check, id_of

log = logging.getLogger("holdfast.stream")


DRAIN_S = 10.0
"""How long a client that closed its side still gets answers to what it asked before."""


CANCELLED = "notifications/cancelled"
LISTEN = "subscriptions/listen"


class _Unanswered:
    """The requests that came in and will be answered yet: not those cancelled since, nor subscriptions."""

    def __init__(self) -> None:
        self._ids: set[RequestId] = set()
        self._changed = asyncio.Event()

    def came_in(self, item: SessionMessage | Exception) -> None:
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method != LISTEN:
            self._ids.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == CANCELLED:
            self._forget(as_request_id((message.params or {}).get("requestId")))

    def went_out(self, item: SessionMessage) -> None:
        if isinstance(item.message, JSONRPCResponse | JSONRPCError) and item.message.id is not None:
            self._forget(item.message.id)

    def _forget(self, request: RequestId | None) -> None:
        if request is not None:
            self._ids.discard(request)
            self._changed.set()

    async def none_left(self, timeout_s: float) -> None:
        """Wait until all are answered, at most `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self._ids:
                self._changed.clear()
                await self._changed.wait()


async def serve_stream(
    server: Server[Any],
    caller: Caller,
    lines: AsyncIterator[bytes],
    writer: asyncio.StreamWriter,
    closing: asyncio.Event | None = None,
) -> None:
    """Serve one connection until the client closes it: one JSON-RPC message a line, as on stdio.

    Once `closing` is set, it ends as soon as what was asked before is answered.
    """
    to_server, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    refusals, unanswered = to_client.clone(), _Unanswered()

    async def read() -> None:
        async with to_server, refusals:
            try:
                async for line in lines:
                    try:
                        item = _parse(line)
                    except Refused as refused:
                        await refusals.send(SessionMessage(refused.answer(id_of(line))))
                        continue
                    unanswered.came_in(item)
                    await to_server.send(item)
                caller.left.set()
                await unanswered.none_left(DRAIN_S)
            except ConnectionError as error:
                caller.left.set()
                log.debug("the client was cut off", extra={"cause": str(error)})
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                log.debug("the session ended before its client did")

    async def write() -> None:
        async with from_server:
            try:
                async for item in from_server:
                    unanswered.went_out(item)
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
            except ConnectionError as error:
                caller.left.set()
                log.debug("the client went away", extra={"cause": str(error)})

    async def close(asked: asyncio.Event) -> None:
        await asked.wait()
        await unanswered.none_left(DRAIN_S)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        if closing is not None:
            tasks.start_soon(close, closing)
        await serve_dual_era_loop(server, from_client, to_client, lifespan_state=caller)
        tasks.cancel_scope.cancel()


def _parse(line: bytes) -> SessionMessage | Exception:
    """The message of a line. Raises `Refused` where it is not to be parsed."""
    if isinstance(line, Overlong):
        raise TooLong
    check(line)
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error
