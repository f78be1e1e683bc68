"""The HTTP side: `/mcp` for agents, `/admin/mcp` for admins, `/healthz` and `/readyz` for whoever keeps it running."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from starlette.types import Receive, Scope, Send

from holdfast_server.mcp.bodies import CheckedBodies
from holdfast_server.mcp.tokens import TokenDirectory
from holdfast_server.mcp.wire import longest_message

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class HttpTerms:
    """What the config in force says of HTTP: asked for with each request."""

    agents_need_a_token: bool
    max_arguments_bytes: int


class _Endpoint:
    """One MCP endpoint, behind a token where the terms of the moment want one."""

    def __init__(self, manager: StreamableHTTPSessionManager, terms: Callable[[], HttpTerms], *, always: bool) -> None:
        self._manager = manager
        self._terms = terms
        self._always = always
        self._open = CheckedBodies(StreamableHTTPASGIApp(manager), self._limit)
        self._guarded = RequireAuthMiddleware(self._open, [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        terms = self._terms()
        self._manager.asgi_app.max_body_size = self._limit()
        guarded = self._always or terms.agents_need_a_token
        await (self._guarded if guarded else self._open)(scope, receive, send)

    def _limit(self) -> int:
        return longest_message(self._terms().max_arguments_bytes)


def build_app(
    agent: Server[Any],
    admin: Server[Any],
    tokens: TokenDirectory,
    *,
    host: str,
    terms: Callable[[], HttpTerms],
    is_ready: Callable[[], bool],
) -> Starlette:
    """The ASGI application of `serve --http`. On loopback it also refuses foreign Host and Origin headers."""
    security = _loopback_only() if host in LOOPBACK else None
    agents, admins = (StreamableHTTPSessionManager(app=server, security_settings=security) for server in (agent, admin))

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
            Route("/mcp", endpoint=_Endpoint(agents, terms, always=False)),
            Route("/admin/mcp", endpoint=_Endpoint(admins, terms, always=True)),
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
