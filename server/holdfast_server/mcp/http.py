"""The HTTP side: `/mcp` for agents, `/admin/mcp` for admins, `/healthz` and `/readyz` for whoever keeps it running."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from holdfast_server.mcp.tokens import TokenDirectory

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

BODY_OVERHEAD_BYTES = 64 * 1024
"""What a request may carry beyond its arguments: names, `_meta`, the envelope."""


def build_app(
    agent: Server[Any],
    admin: Server[Any],
    tokens: TokenDirectory,
    *,
    agents_need_a_token: bool,
    host: str,
    max_arguments_bytes: int,
    is_ready: Callable[[], bool],
) -> Starlette:
    """The ASGI application of `serve --http`. On loopback it also refuses foreign Host and Origin headers."""
    security = _loopback_only() if host in LOOPBACK else None
    limit = max_arguments_bytes + BODY_OVERHEAD_BYTES
    agents, admins = (
        StreamableHTTPSessionManager(app=server, security_settings=security, max_request_body_size=limit)
        for server in (agent, admin)
    )
    open_endpoint = StreamableHTTPASGIApp(agents)
    agent_endpoint = RequireAuthMiddleware(open_endpoint, []) if agents_need_a_token else open_endpoint

    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> JSONResponse:
        ready = is_ready()
        return JSONResponse({"status": "ready" if ready else "starting"}, status_code=200 if ready else 503)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(agents.run())
            await stack.enter_async_context(admins.run())
            yield

    return Starlette(
        routes=[
            Route("/mcp", endpoint=agent_endpoint),
            Route("/admin/mcp", endpoint=RequireAuthMiddleware(StreamableHTTPASGIApp(admins), [])),
            Route("/healthz", endpoint=healthz, methods=["GET"]),
            Route("/readyz", endpoint=readyz, methods=["GET"]),
        ],
        middleware=[Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(tokens))],
        lifespan=lifespan,
    )


def _loopback_only() -> TransportSecuritySettings:
    """Against DNS rebinding: what listens on loopback answers to loopback's names alone."""
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
        allowed_origins=["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
    )
