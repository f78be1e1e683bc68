"""A streamable HTTP server made with the SDK, in both eras or in the older one only.

    python over_http.py PORT LOG [--legacy] [--json]

It prints ``listening`` once its socket is bound. Each call is appended to LOG when it begins, as is each one cancelled.
"""

import argparse
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "bytes": {"type": "integer"}},
    "$defs": {"kept": {"type": "string"}},
}
NAMES = ("echo", "headers", "wait", "big", "die", "change")


class OverHttp:
    """The tools, and the log of what was called."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.bus = InMemorySubscriptionBus()
        self.version = 0
        self.server: Server[Any] = Server(
            "over-http",
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_subscriptions_listen=ListenHandler(self.bus),
            get_tool_input_schema=lambda name: SCHEMA,
        )

    async def list_tools(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        names = (*NAMES, f"extra_{self.version}")
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=SCHEMA) for name in names])

    async def call_tool(
        self, ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        self.note(params.name)
        try:
            return await self.perform(ctx, params)
        except anyio.get_cancelled_exc_class():
            self.note("cancelled")
            raise

    async def perform(
        self, ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        match params.name:
            case "headers":
                return text(json.dumps(dict(ctx.request.headers) if ctx.request is not None else {}))
            case "wait":
                await anyio.sleep(60)
            case "big":
                return text("x" * (params.arguments or {})["bytes"])
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "change":
                self.version += 1
                await self.bus.publish(ToolsListChanged())
                await ctx.session.send_tool_list_changed()
        return text(json.dumps({"meta": dict(ctx.meta or {}), "arguments": params.arguments}))

    def note(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")


def text(words: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def only_legacy(app: ASGIApp) -> ASGIApp:
    """As a server before 2026 answers: it knows neither discovery nor the stateless era."""

    async def filtered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if b'"server/discover"' in body:
            error = {"code": -32601, "message": "Method not found"}
            answer = JSONResponse({"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": error}, 400)
            await answer(scope, receive, send)
            return
        first = True

        async def replayed() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await app(scope, replayed, send)

    return filtered


async def serve(options: argparse.Namespace) -> None:
    listening = socket.create_server(("127.0.0.1", options.port))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app: ASGIApp = OverHttp(options.log).server.streamable_http_app(json_response=options.json)
    if options.legacy:
        app = only_legacy(app)
    print("listening", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--json", action="store_true")
    anyio.run(serve, parser.parse_args())


if __name__ == "__main__":
    main()
