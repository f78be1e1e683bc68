"""Who speaks on a connection, whether they still listen, and how a handler finds out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from holdfast_store.model.values import LOCAL, Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is behind a stdio or socket connection: the lifespan state of that connection.

    `identify` is asked with each request: the principal as the config in force has it, None where it has it no more.
    `left` is set once the client has closed its side: what it is sent from then on, nobody may read.
    """

    identify: Callable[[], Principal | None]
    left: asyncio.Event = field(default_factory=asyncio.Event)


class PrincipalToken(AccessToken):
    """The SDK's picture of a bearer token, with the principal that Holdfast knows it for."""

    principal: Principal


def caller_of(ctx: ServerRequestContext[Any, Any]) -> Principal:
    """The principal of a request: the connection's on stdio, the bearer token's over HTTP.

    Over HTTP without principals (which binds to loopback only) everybody is `local`. Raises `MCPError` where the
    connection's principal was taken out of the config.
    """
    if isinstance(ctx.lifespan_context, Caller):
        principal = ctx.lifespan_context.identify()
        if principal is None:
            raise MCPError(
                INVALID_REQUEST,
                "The principal of this connection, or its token, was taken out of the config. Connect again.",
                {"code": "access_denied"},
            )
        return principal
    user = ctx.request.scope.get("user") if ctx.request is not None else None
    if isinstance(user, AuthenticatedUser) and isinstance(user.access_token, PrincipalToken):
        return user.access_token.principal
    return LOCAL


def is_over_http(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether a request came over HTTP, where each one brings its own token, or none."""
    return not isinstance(ctx.lifespan_context, Caller)


def is_known(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the config still has the principal of the connection."""
    return not isinstance(ctx.lifespan_context, Caller) or ctx.lifespan_context.identify() is not None


async def is_listening(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client still waits for the answer: it has not closed its stdio, nor hung up its HTTP request.

    In the 2026 era hanging up cancels the handler, so whoever asks is still listened to.
    """
    if isinstance(ctx.lifespan_context, Caller):
        return not ctx.lifespan_context.left.is_set()
    return ctx.request is None or is_modern(ctx) or not await ctx.request.is_disconnected()


def is_modern(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the request speaks protocol version 2026-07-28 or later."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def is_ready(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether calls may be taken: a handshake-era connection must have sent `initialize` first."""
    return is_modern(ctx) or ctx.session.client_params is not None
