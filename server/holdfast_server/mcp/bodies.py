"""What HTTP requests carry is looked at before the protocol's own code parses it; see `wire`."""

from collections.abc import Callable

from mcp_types.jsonrpc import JSONRPCError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast_server.mcp.wire import KEPT_BYTES, Refused, TooLong, check, id_of

BAD_REQUEST = 400
CONTENT_TOO_LARGE = 413


class CheckedBodies:
    """An ASGI middleware: POSTs of more than `limit()` bytes, or that `wire.check` refuses, do not reach `app`."""

    def __init__(self, app: ASGIApp, limit: Callable[[], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        limit = self._limit()
        try:
            body = await _read(Request(scope, receive), limit)
        except ClientDisconnect:
            return
        if len(body) > limit:
            await _answer(TooLong().answer(id_of(body[:KEPT_BYTES])), CONTENT_TOO_LARGE)(scope, receive, send)
            return
        try:
            check(body)
        except Refused as refused:
            await _answer(refused.answer(id_of(body)), BAD_REQUEST)(scope, receive, send)
            return
        await self._app(scope, _given(body, receive), send)


async def _read(request: Request, limit: int) -> bytes:
    """The body, or as much of it as shows that it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _answer(error: JSONRPCError, status: int) -> Response:
    text = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(text, status, headers={"Connection": "close"}, media_type="application/json")
