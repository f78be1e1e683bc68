"""From what arrives, in any era, to a `CallRequest`."""

from collections.abc import Mapping
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_server.config.quantities import LONGEST_S, seconds
from holdfast_server.mcp import meta
from holdfast_server.mcp.client_profile import meta_of, profile_of
from holdfast_server.mcp.rounds import asker, brought
from holdfast_store.model.values import Principal
from holdfast_tools.client import Listener
from holdfast_tools.request import CallRequest


def decode_call(
    ctx: ServerRequestContext[Any, Any], principal: Principal, listener: Listener | None = None
) -> CallRequest:
    """The `tools/call` in `ctx`, of which `listener` is to hear.

    Raises `MCPError` (-32602) where name or arguments are not of the right shape.
    """
    params = ctx.params or {}
    name = params.get("name")
    arguments = params.get("arguments")
    if not isinstance(name, str) or not name:
        raise MCPError(INVALID_PARAMS, "tools/call needs a name")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise MCPError(INVALID_PARAMS, f"the arguments of {name} must be an object")
    carried = meta_of(ctx)
    client = profile_of(ctx)
    input_responses, request_state = brought(ctx)
    return CallRequest(
        principal=principal,
        tool=name,
        arguments=arguments,
        key=_key(carried) or _header(ctx, meta.KEY_HEADER),
        client_call_id=_text(carried, meta.CLIENT_CALL_ID),
        run=_text(carried, meta.RUN),
        traceparent=_text(carried, meta.TRACEPARENT) or _header(ctx, meta.TRACEPARENT),
        deadline_s=_deadline_s(carried),
        client=client,
        listener=listener,
        input_responses=input_responses,
        request_state=request_state,
        ask=asker(ctx, client),
    )


def _key(carried: Mapping[str, Any]) -> str | None:
    """A key of the wrong type must not be dropped in silence: its sender relies on it."""
    key = carried.get(meta.IDEMPOTENCY_KEY)
    if key is None or (isinstance(key, str) and key):
        return key
    raise MCPError(INVALID_PARAMS, f'_meta["{meta.IDEMPOTENCY_KEY}"] must be a string of 1 to 255 characters')


def _deadline_s(carried: Mapping[str, Any]) -> float | None:
    """A deadline that makes no sense must not be dropped in silence either."""
    deadline = carried.get(meta.DEADLINE)
    if deadline is None:
        return None
    try:
        span_s = seconds(deadline) if isinstance(deadline, str) else 0.0
    except ValueError:
        span_s = 0.0
    if not 0.0 < span_s <= LONGEST_S:
        raise MCPError(INVALID_PARAMS, f'_meta["{meta.DEADLINE}"] must be a duration such as "30s" or "10m"')
    return span_s


def _text(carried: Mapping[str, Any], name: str) -> str | None:
    value = carried.get(name)
    return value if isinstance(value, str) and value else None


def _header(ctx: ServerRequestContext[Any, Any], name: str) -> str | None:
    return ctx.request.headers.get(name) if ctx.request is not None else None
