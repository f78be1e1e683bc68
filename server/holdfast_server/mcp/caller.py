"""Who speaks on a connection, and how a handler finds out."""

from dataclasses import dataclass
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from holdfast_store.model.values import LOCAL, Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal behind a stdio or socket connection: the lifespan state of that connection."""

    principal: Principal


class PrincipalToken(AccessToken):
    """The SDK's picture of a bearer token, with the principal that Holdfast knows it for."""

    principal: Principal


def caller_of(ctx: ServerRequestContext[Any, Any]) -> Principal:
    """The principal of a request: the connection's on stdio, the bearer token's over HTTP.

    Over HTTP without principals (which binds to loopback only) everybody is `local`.
    """
    if isinstance(ctx.lifespan_context, Caller):
        return ctx.lifespan_context.principal
    user = ctx.request.scope.get("user") if ctx.request is not None else None
    if isinstance(user, AuthenticatedUser) and isinstance(user.access_token, PrincipalToken):
        return user.access_token.principal
    return LOCAL


def is_modern(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the request speaks protocol version 2026-07-28 or later."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def is_ready(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether calls may be taken: a handshake-era connection must have sent `initialize` first."""
    return is_modern(ctx) or ctx.session.client_params is not None
