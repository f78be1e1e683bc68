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
from importlib.metadata import version
from typing import Any

from mcp.client.session import ClientSession
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry import context as telemetry_context
from opentelemetry import propagate, trace

from holdfast_store.model.errors import EngineError
from holdfast_store.model.values import Json

OnProgress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Called with progress, total and message, as the downstream sent them."""

MARK_HEADER = "holdfast-exchange"
"""Names a request to our own transports, which take it off before anything is written."""

UNREADABLE = "The answer could not be read: "
"""How the messages begin with which our transports stand in for answers that are not JSON-RPC."""

_PER_HOP = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, "progressToken"})
"""What `_meta` says of one connection only: the caller's must not reach the downstream."""

_TRACE_FIELDS = ("traceparent", "tracestate", "baggage")

_STAND_INS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (CONNECTION_CLOSED, ("Connection closed", "SSE stream ended", "SSE stream failed:", UNREADABLE)),
    (PARSE_ERROR, ("Failed to parse SSE message:", "Failed to parse JSON response:")),
    (INVALID_REQUEST, ("server answered a request with 202 Accepted", "Unexpected content type:")),
)
"""Errors that the SDK makes up where no readable answer came: code, and how the message begins."""


async def request(
    session: ClientSession,
    method: str,
    params: Mapping[str, Any],
    *,
    meta: Mapping[str, Any] | None = None,
    mark: str | None = None,
    cancel_on_abandon: bool = True,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
) -> Json:
    """Send one request on `session` and return the result as it stood on the wire.

    `meta` is merged under what the protocol's era demands, and its trace context is handed on. `mark` names the
    request to our transports. With `cancel_on_abandon` a cancelled or timed-out wait tells the server so.

    Raises MCPError for an error, an expired `timeout_s` and a closed connection; `made_up` tells which was sent.
    """
    own_meta = {key: value for key, value in (meta or {}).items() if key not in _PER_HOP}
    data: dict[str, Any] = {"method": method, "params": {**params, "_meta": own_meta}}
    options: CallOptions = {}
    session._stamp(data, options)
    options["cancel_on_abandon"] = cancel_on_abandon
    if timeout_s is not None:
        options["timeout"] = timeout_s
    if on_progress is not None:
        options["on_progress"] = _progress(on_progress)
    if mark is not None:
        options.setdefault("headers", {})[MARK_HEADER] = mark
    with _caller_trace(own_meta):
        return await session._dispatcher.send_raw_request(method, data["params"], options)


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
