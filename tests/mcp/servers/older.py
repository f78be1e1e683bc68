"""The SDK's servers as they were before 2026-07-28: they know neither discovery nor the stateless era."""

import json
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def on_stdio(server: Server[Any], *, legacy: bool) -> None:
    """Serve on this process's stdio until it is closed."""
    async with stdio_server() as (read, write):
        if legacy:
            await serve_loop(server, read, write, lifespan_state=None)
        else:
            await server.run(read, write, server.create_initialization_options())


async def over_http(server: Server[Any], *, legacy: bool) -> None:
    """Serve on a free port of loopback; ``listening on URL`` is printed once it is bound."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    app: ASGIApp = server.streamable_http_app()
    config = uvicorn.Config(
        only_legacy(app) if legacy else app, log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    await uvicorn.Server(config).serve(sockets=[listening])


def only_legacy(app: ASGIApp) -> ASGIApp:
    """`app` without `server/discover`: whoever asks for it is told that there is no such method."""

    async def filtered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body = await _body(receive)
        if b'"server/discover"' in body:
            error = {"code": -32601, "message": "Method not found"}
            answer = JSONResponse({"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": error}, 400)
            await answer(scope, receive, send)
            return
        await app(scope, _replaying(body, receive), send)

    return filtered


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replaying(body: bytes, receive: Receive) -> Callable[[], Any]:
    replayed = False

    async def again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
