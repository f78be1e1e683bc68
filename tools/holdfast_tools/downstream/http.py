"""A downstream behind a streamable HTTP endpoint.

The SDK's client does the protocol; between it and the network stands `_Guard`, which turns everything that would kill
that client for good (a refused connection, a cut one, a gateway's error page) into an answer, and notes for each call
whether it was sent and what became of it.
"""

import http
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import Context
from functools import cache
from types import TracebackType
from typing import Any

import anyio
import httpx2
import pydantic_core
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST

from holdfast_store.model.errors import DownstreamError
from holdfast_tools.downstream.attempt import Lost, NotSent
from holdfast_tools.downstream.link import Exchange, Link
from holdfast_tools.downstream.spec import HttpSpec
from holdfast_tools.sdk import MARK_HEADER

log = logging.getLogger("holdfast.downstream")

CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 2.0
KEPT_CONNECTIONS = 64
KEPT_FOR_S = 4.0
"""Shorter than the five seconds after which common servers close idle connections: a request must not meet that."""

_SESSION_CODES = frozenset({INVALID_REQUEST, CONNECTION_CLOSED, -32001})
"""With which codes servers say that they do not know a session: the specification names none."""

_GATEWAY_STATUSES = frozenset({502, 503, 504})


class HttpLink(Link):
    """The transport to one endpoint. Over, it still carries the requests that are under way to their answers."""

    outlives_failure = True

    def __init__(self, name: str, spec: HttpSpec) -> None:
        super().__init__(name)
        self._spec = spec
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> TransportStreams:
        network = httpx2.AsyncHTTPTransport(verify=_certificates(), limits=_LIMITS, socket_options=_keepalive())
        guard = _Guard(self, network)
        try:
            client = httpx2.AsyncClient(
                transport=guard,
                headers=dict(self._spec.headers),
                timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
                trust_env=False,
            )
            client.build_request("POST", self._spec.url)
        except (httpx2.InvalidURL, ValueError, TypeError) as error:
            raise DownstreamError(f"its url or headers cannot be used: {error}") from error
        await self._stack.enter_async_context(client)
        read, write = await self._stack.enter_async_context(
            streamable_http_client(self._spec.url, http_client=client, max_sse_event_size=None)
        )
        return _Incoming(read, self), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)


class _Incoming:
    """The SDK's read stream, watched for its end."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], link: HttpLink) -> None:
        self._stream = stream
        self._link = link

    @property
    def last_context(self) -> Context | None:
        """The context of the request on whose response stream the last message came; the SDK handles it therein."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._link.fail("its transport ended")
            raise

    def __aiter__(self) -> "_Incoming":
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> "_Incoming":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.aclose()
        return None


class _Guard(httpx2.AsyncBaseTransport):
    """Between the SDK's client and the network. Answers every POST, whatever happens to it."""

    def __init__(self, link: HttpLink, network: httpx2.AsyncBaseTransport) -> None:
        self._link = link
        self._network = network

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = self._exchange(request.headers.pop(MARK_HEADER, None))
        if request.method == "DELETE":
            request.extensions = {**request.extensions, "timeout": _GOODBYE}
        if request.method != "POST":
            return await self._watched(request)
        request.extensions = {**request.extensions, "trace": _note_sending(exchange)}
        try:
            response = await self._network.handle_async_request(request)
            response.request = request
            if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                return response
            await response.aread()
        except _Withdrawn as error:
            return _stand_in(503, CONNECTION_CLOSED, str(error))
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return self._broken(exchange, error)
        return self._judged(request, response, exchange)

    async def aclose(self) -> None:
        await self._network.aclose()

    def _exchange(self, mark: str | None) -> Exchange:
        """What is noted about a request; one that nobody waits for any more is withdrawn."""
        if mark is None:
            return Exchange()
        return self._link.exchanges.marked(mark) or Exchange(withdrawn=True)

    async def _watched(self, request: httpx2.Request) -> httpx2.Response:
        """The stream of a session's notifications, and its end: both tell of the session's health."""
        try:
            response = await self._network.handle_async_request(request)
        except httpx2.ConnectError as error:
            self._link.fail(f"it cannot be reached: {_cause(error)}")
            raise
        if request.method == "GET" and response.status_code == http.HTTPStatus.NOT_FOUND:
            self._link.fail("it does not know the session any more; it was probably restarted")
        return response

    def _broken(self, exchange: Exchange, error: httpx2.TransportError | httpx2.DecodingError) -> httpx2.Response:
        """No answer came. Whether the request was sent decides what that means."""
        cause = _cause(error)
        if exchange.sent:
            reason = f"the connection broke before the answer was complete: {cause}"
            exchange.verdict = Lost(reason)
        else:
            reason = f"it cannot be reached: {cause}"
            exchange.verdict = NotSent(reason)
        self._link.fail(reason)
        return _stand_in(503, CONNECTION_CLOSED, reason)

    def _judged(self, request: httpx2.Request, response: httpx2.Response, exchange: Exchange) -> httpx2.Response:
        """What a complete answer that is no event stream amounts to."""
        status = response.status_code
        error = _rpc_error(response)
        if MCP_SESSION_ID in request.headers and _denies_session(status, error):
            reason = "it does not know the session any more; it was probably restarted"
            exchange.verdict = NotSent(reason)
            self._link.fail(reason)
        elif status >= 500 and error is None:
            reason = f"it answered {_status(status)}, which does not say whether the call was run"
            exchange.verdict = Lost(reason)
            if status in _GATEWAY_STATUSES:
                self._link.fail(f"it answered {_status(status)}")
        elif status < 300 and not _is_json(response):
            reason = f"it answered {_status(status)} without a JSON-RPC answer"
            exchange.verdict = Lost(reason)
        elif status >= 400 and error is None:
            reason = f"it refused the request: {_status(status)}{_mend(status)}"
            return _stand_in(status, INTERNAL_ERROR, reason)
        return response


class _Withdrawn(Exception):
    """Nobody wants the request to be sent any more."""


_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_FOR_S)
_GOODBYE = dict.fromkeys(("connect", "read", "write", "pool"), GOODBYE_TIMEOUT_S)


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _note_sending(exchange: Exchange) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """A trace of the HTTP library's own: `sent` is set when it begins to write, after connecting."""

    async def note(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_headers.started") and not exchange.begin():
            raise _Withdrawn("it was withdrawn before it was sent")

    return note


def _rpc_error(response: httpx2.Response) -> Mapping[str, Any] | None:
    """The JSON-RPC error that the body is, or None."""
    if not _is_json(response):
        return None
    if response.status_code < 400 and b'"error"' not in response.content:
        return None
    try:
        body = pydantic_core.from_json(response.content)
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else None


def _denies_session(status: int, error: Mapping[str, Any] | None) -> bool:
    """Whether the server says that it does not know the session: 404 by the specification, 400 by many."""
    if error is None:
        return status == http.HTTPStatus.NOT_FOUND
    message = str(error.get("message", "")).lower()
    told = "session" in message or "not initialized" in message
    return status in (400, 404) and error["code"] in _SESSION_CODES and told


def _is_json(response: httpx2.Response) -> bool:
    return str(response.headers.get("content-type", "")).lower().startswith("application/json")


def _stand_in(status: int, code: int, message: str) -> httpx2.Response:
    """A JSON-RPC error for the SDK's client, which puts the request's id into it."""
    return httpx2.Response(status, json={"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}})


def _status(status: int) -> str:
    try:
        return f"HTTP {status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _mend(status: int) -> str:
    if status in (401, 403):
        return "; check its `headers` in the config"
    if status in (404, 405):
        return "; check that its `url` is the MCP endpoint"
    return ""


def _cause(error: Exception) -> str:
    """What happened, without addresses that may carry secrets."""
    if isinstance(error, httpx2.TimeoutException):
        return "it did not respond in time"
    return str(error) or type(error).__name__


def _keepalive() -> list[tuple[int, int, int]]:
    """Have the system find out that a peer vanished without a word, within about a minute."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        number = getattr(socket, name, None)
        if number is not None:
            options.append((socket.IPPROTO_TCP, number, value))
    return options
