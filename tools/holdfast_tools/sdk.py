"""The private seams of the MCP SDK that Holdfast rests on, all of them, in one place.

Why private ones at all: the SDK's public calls parse results into models (which drop what they do not know), send a
cancel whenever a wait ends (which makes a server throw away the evidence of a write), answer a server's requests for
input by themselves, and hide whether a request was ever written. Raw requests through a session's own dispatcher,
stamped for its protocol era by the session itself, do none of that.

The seams are looked for at import, so that another version of the SDK fails with a sentence and not in mid-call.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import anyio
from mcp.client.session import ClientSession
from mcp.server.connection import Connection as ServerConnection
from mcp.server.session import ServerSession
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, encode_header_value, find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    LOG_LEVEL_META_KEY,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    InitializedNotification,
    InitializeResult,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from opentelemetry import context as telemetry_context
from opentelemetry import propagate, trace

from holdfast_store.model.errors import DownstreamError, EngineError
from holdfast_store.model.values import Json

OnProgress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Called with progress, total and message, as the downstream sent them."""

OnMessage = Callable[[Json], None]
"""Called with the params of a log message. Must not block."""

MARK_HEADER = "holdfast-exchange"
"""Names a request to our own transports, which take it off before anything is written."""

UNREADABLE = "The answer could not be read: "
"""How the messages begin with which our transports stand in for answers that are not JSON-RPC."""

OWN_PREFIX = "dev.holdfast/"
"""How the names begin that Holdfast itself uses in `_meta`: they are meant for it alone."""

_PER_HOP = frozenset(
    {
        PROTOCOL_VERSION_META_KEY,
        CLIENT_INFO_META_KEY,
        CLIENT_CAPABILITIES_META_KEY,
        LOG_LEVEL_META_KEY,
        "progressToken",
    }
)
"""What `_meta` says of one connection only: the caller's must not reach the downstream as it is."""

_HANDSHAKE_ONLY = frozenset({"tasks"})
"""Capabilities of the handshake era that mean nothing, or another thing, since 2026-07-28."""

_TRACE_FIELDS = ("traceparent", "tracestate", "baggage")

_STAND_INS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (CONNECTION_CLOSED, ("Connection closed", "SSE stream ended", "SSE stream failed:", UNREADABLE)),
    (PARSE_ERROR, ("Failed to parse SSE message:", "Failed to parse JSON response:")),
    (INVALID_REQUEST, ("server answered a request with 202 Accepted", "Unexpected content type:")),
)
"""Errors that the SDK makes up where no readable answer came: code, and how the message begins."""


class Client(Protocol):
    """On whose behalf a request is sent (see `holdfast_tools.client.ClientProfile`)."""

    @property
    def is_modern(self) -> bool: ...
    @property
    def capabilities(self) -> Json: ...
    @property
    def info(self) -> Json | None: ...
    @property
    def log_level(self) -> str | None: ...
    @property
    def meta(self) -> Json: ...


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request under way: who hears the log messages that belong to it, where anybody does."""

    on_message: OnMessage | None


_asked: ContextVar[Asked | None] = ContextVar("holdfast_asked", default=None)
_taken_back: ContextVar[anyio.Event | None] = ContextVar("holdfast_taken_back", default=None)


def asked() -> Asked | None:
    """On whose response stream the notification came that is being handled; None where that cannot be told.

    The SDK's HTTP client hands on the context in which a request was sent with each message of its response stream.
    """
    return _asked.get()


async def request(
    session: ClientSession,
    method: str,
    params: Mapping[str, Any],
    *,
    client: Client | None = None,
    meta: Mapping[str, Any] | None = None,
    mark: str | None = None,
    cancel_on_abandon: bool = True,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
    on_behalf: Asked | None = None,
) -> Json:
    """Send one request on `session` and return the result as it stood on the wire.

    `client` is on whose behalf it is sent: a server of the stateless era is told its capabilities, its name and which
    log messages it wants; without one it is told Holdfast's own. `meta` is merged over the client's own and under what
    the protocol's era demands, and its trace context is handed on. `mark` names the request to our transports. With
    `cancel_on_abandon` a cancelled or timed-out wait tells the server so. `on_behalf` is what `asked` answers for
    notifications on the request's own response stream.

    Raises MCPError for an error, an expired `timeout_s` and a closed connection; `made_up` tells which was sent.
    """
    own_meta = passed_on({**(client.meta if client is not None else {}), **(meta or {})})
    data: dict[str, Any] = {"method": method, "params": {**params, "_meta": own_meta}}
    options: CallOptions = {}
    session._stamp(data, options)
    if client is not None and is_modern(session.protocol_version):
        _speak_for(client, own_meta)
    if method.startswith("tasks/") and is_modern(session.protocol_version):
        options.setdefault("headers", {})[MCP_NAME_HEADER] = encode_header_value(str(params.get("taskId")))
    options["cancel_on_abandon"] = cancel_on_abandon
    if timeout_s is not None:
        options["timeout"] = timeout_s
    if on_progress is not None:
        options["on_progress"] = _progress(on_progress)
    if mark is not None:
        options.setdefault("headers", {})[MARK_HEADER] = mark
    token = _asked.set(on_behalf)
    try:
        with _caller_trace(own_meta):
            return await session._dispatcher.send_raw_request(method, data["params"], options)
    finally:
        _asked.reset(token)


def passed_on(meta: Mapping[str, Any]) -> Json:
    """What of a caller's `_meta` is for the downstream: not what describes the caller's own connection to Holdfast."""
    return {key: value for key, value in meta.items() if key not in _PER_HOP and not key.startswith(OWN_PREFIX)}


def _speak_for(client: Client, meta: Json) -> None:
    """Replace what the stamp said of us by what `client` said of itself (specification 2026-07-28, `_meta`)."""
    foreign = frozenset() if client.is_modern else _HANDSHAKE_ONLY
    meta[CLIENT_CAPABILITIES_META_KEY] = {
        name: value for name, value in client.capabilities.items() if name not in foreign
    }
    if client.info is not None:
        meta[CLIENT_INFO_META_KEY] = client.info
    else:
        meta.pop(CLIENT_INFO_META_KEY, None)
    if client.log_level is not None:
        meta[LOG_LEVEL_META_KEY] = client.log_level


OnRequest = Callable[[str, Mapping[str, Any] | None], Awaitable[Json]]
"""Answers a request of the server, given its method and raw params."""

OnNotification = Callable[[str, Mapping[str, Any] | None], Awaitable[None]]


class HandshakeSession(ClientSession):
    """A session of the handshake era in which the server's own requests come and are answered raw."""

    def __init__(
        self,
        incoming: ReadStream[SessionMessage | Exception],
        outgoing: WriteStream[SessionMessage],
        on_request: OnRequest,
        on_notification: OnNotification,
    ) -> None:
        super().__init__(incoming, outgoing)
        self._answer_raw = on_request
        self._notify_raw = on_notification

    async def shake_hands(self, capabilities: Json, info: Json | None, timeout_s: float) -> None:
        """Initialize as a client that declares `capabilities` and calls itself `info`, as they stand.

        Raises MCPError, and DownstreamError for a version of another era.
        """
        own = self._client_info.model_dump(by_alias=True, mode="json", exclude_none=True)
        params: Json = {
            "protocolVersion": LATEST_HANDSHAKE_VERSION,
            "capabilities": capabilities,
            "clientInfo": info or own,
        }
        options: CallOptions = {"timeout": timeout_s, "cancel_on_abandon": False}
        result = await self._dispatcher.send_raw_request("initialize", params, options)
        agreed = InitializeResult.model_validate(result, by_name=False)
        if agreed.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise DownstreamError(f"it answered the handshake with protocol version {agreed.protocol_version!r}")
        self.adopt(agreed)
        await self.send_notification(InitializedNotification())

    async def _on_request(self, dctx: Any, method: str, params: Mapping[str, Any] | None) -> Json:
        token = _taken_back.set(dctx.cancel_requested)
        try:
            return await self._answer_raw(method, params)
        finally:
            _taken_back.reset(token)

    async def _on_notify(self, dctx: Any, method: str, params: Mapping[str, Any] | None) -> None:
        await self._notify_raw(method, params)


def is_taken_back() -> bool:
    """Whether the server took the request back that is being answered here; else who cancels that is somebody else."""
    taken_back = _taken_back.get()
    return taken_back is not None and taken_back.is_set()


async def tell(session: ServerSession, method: str, params: Json) -> None:
    """Send a notification to a client on the stream of its request, as it is. Dropped once that was answered."""
    await session._request_outbound.notify(method, params)


async def ask(session: ServerSession, method: str, params: Json | None, timeout_s: float) -> Json:
    """Send a request to a client of the handshake era on the stream of its own request, and return the raw result.

    Raises MCPError for the client's error, an expired `timeout_s` and a client that is gone.
    """
    return await session._request_outbound.send_raw_request(method, params, {"timeout": timeout_s})


def connection_of(session: ServerSession) -> ServerConnection:
    """The connection that a request came on: its state lives as long as a session of the handshake era."""
    return session._connection


def made_up(error: MCPError) -> bool:
    """Whether `error` stands in for an answer that never came, or could not be read."""
    return any(error.code == code and error.message.startswith(starts) for code, starts in _STAND_INS)


def remember_header_parameters(session: ClientSession, tools: Iterable[Json]) -> None:
    """Have calls mirror the arguments that `tools` declare as headers (specification 2026-07-28, x-mcp-header).

    The SDK learns these from its own listing, which we replace.
    """
    session._x_mcp_header_maps = {
        tool["name"]: x_mcp_header_map(tool.get("inputSchema"))
        for tool in tools
        if find_invalid_x_mcp_header(tool.get("inputSchema")) is None
    }


def header_problem(protocol_version: str, schema: Any) -> str | None:
    """Why a client of this protocol version must not use a tool with such header declarations, or None."""
    return find_invalid_x_mcp_header(schema) if is_modern(protocol_version) else None


def is_modern(protocol_version: str | None) -> bool:
    """Whether a protocol version is of the stateless era, from 2026-07-28 on."""
    return protocol_version in MODERN_PROTOCOL_VERSIONS


def _progress(on_progress: OnProgress) -> ProgressFnT:
    async def deliver(progress: float, total: float | None, message: str | None) -> None:
        await on_progress(progress, total, message)

    return deliver


@contextmanager
def _caller_trace(meta: Mapping[str, Any]) -> Iterator[None]:
    """Send within the caller's trace.

    The dispatcher writes the current span's context into `_meta`. Without telemetry that is the caller's own,
    unchanged; with it, a span of ours in the caller's trace.
    """
    carrier = {name: meta[name] for name in _TRACE_FIELDS if isinstance(meta.get(name), str)}
    callers = propagate.extract(carrier) if "traceparent" in carrier else None
    span = trace.get_current_span(callers).get_span_context() if callers is not None else None
    current = trace.get_current_span().get_span_context()
    if callers is None or span is None or not span.is_valid or current.trace_id == span.trace_id:
        yield
        return
    token = telemetry_context.attach(callers)
    try:
        yield
    finally:
        telemetry_context.detach(token)


def _require_seams() -> None:
    """Raises EngineError where this SDK lacks what the functions above use."""
    probe: Any = ClientSession(dispatcher=object())  # type: ignore[arg-type]
    missing = [
        f"ClientSession.{name}" for name in ("_stamp", "_dispatcher", "_x_mcp_header_maps") if not hasattr(probe, name)
    ]
    server_probe: Any = ServerSession(None, ServerConnection(None, protocol_version=""))  # type: ignore[arg-type]
    missing.extend(
        f"ServerSession.{name}" for name in ("_request_outbound", "_connection") if not hasattr(server_probe, name)
    )
    if list(inspect.signature(JSONRPCDispatcher.send_raw_request).parameters)[1:4] != ["method", "params", "opts"]:
        missing.append("JSONRPCDispatcher.send_raw_request(method, params, opts)")
    wanted = {"timeout", "cancel_on_abandon", "on_progress", "headers"}
    missing.extend(f"CallOptions[{name!r}]" for name in sorted(wanted - CallOptions.__annotations__.keys()))
    if missing:
        raise EngineError(
            f"this version of Holdfast rests on parts of the MCP SDK that mcp {version('mcp')} does not have "
            f"({', '.join(missing)}); install mcp>=2.3,<2.4"
        )


_require_seams()
