"""A downstream whose effects a test can count: an MCP server on stdio, or on loopback HTTP, in both protocol eras.

    python ledger_server.py LEDGER [--http PORT] [--list-delay-ms N] [--start-delay-ms N]

With ``--http`` (0 picks a port) it prints ``listening on http://127.0.0.1:PORT/mcp`` once it serves. Every tool but
`read` is an effect: a synced `begin` line in LEDGER, the delay, a synced `done` line.
"""

import argparse
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from support.ledger import Ledger

DELAY = {"type": "integer", "minimum": 0, "description": "how long the effect takes, in milliseconds"}


def schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


TOOLS = (
    types.Tool(
        name="read",
        description="Answer `n` and change nothing.",
        input_schema=schema(["n"], n={"type": "integer"}, delay_ms=DELAY),
        annotations=types.ToolAnnotations(read_only_hint=True),
    ),
    types.Tool(
        name="write",
        description="One effect, allowed without asking: it claims to destroy nothing.",
        input_schema=schema(["n"], n={"type": "integer"}, delay_ms=DELAY, ref={"type": "string"}),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False),
    ),
    types.Tool(
        name="destroy",
        description="One effect of a tool without annotations: the worst is assumed.",
        input_schema=schema(["n"], n={"type": "integer"}, delay_ms=DELAY),
    ),
    types.Tool(
        name="fail",
        description="One effect that ends in a tool error.",
        input_schema=schema(["n"], n={"type": "integer"}, delay_ms=DELAY),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False),
    ),
    types.Tool(
        name="break",
        description="One effect that ends in a JSON-RPC error.",
        input_schema=schema(["n"], n={"type": "integer"}),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False),
    ),
    types.Tool(
        name="slow",
        description="One effect that takes five seconds where nothing else is said.",
        input_schema=schema(["n"], n={"type": "integer"}, delay_ms=DELAY),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False),
    ),
)

DEFAULT_DELAY_MS = {"slow": 5000}


class LedgerServer:
    """The tools over one ledger."""

    def __init__(self, ledger: Ledger, list_delay_s: float = 0.0) -> None:
        self.ledger = ledger
        self.list_delay_s = list_delay_s
        self.server: Server[Any] = Server(
            "ledger",
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            get_tool_input_schema={tool.name: tool.input_schema for tool in TOOLS}.get,
        )

    async def list_tools(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        await anyio.sleep(self.list_delay_s)
        return types.ListToolsResult(tools=list(TOOLS))

    async def call_tool(
        self, ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        arguments = dict(params.arguments or {})
        delay_s = arguments.get("delay_ms", DEFAULT_DELAY_MS.get(params.name, 0)) / 1000
        if params.name == "read":
            await anyio.sleep(delay_s)
            return text(f"read {arguments.get('n')}")
        effect = uuid.uuid4().hex
        self.ledger.begin(effect, params.name, arguments)
        await anyio.sleep(delay_s)
        self.ledger.done(effect)
        if params.name == "break":
            raise ValueError(f"broken on purpose, n={arguments.get('n')}")
        return text(f"{params.name} {arguments.get('n')} as {effect}", is_error=params.name == "fail")


def text(words: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)], is_error=is_error)


async def serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def serving_http(port: int, *, json_response: bool = True) -> Callable[[Server[Any]], Awaitable[None]]:
    """Serve on loopback `port`; the socket listens before its address is printed, so nobody connects too early.

    With `json_response` nothing but the answer can come to a request: a server that asks its client wants none of it.
    """

    async def serve(server: Server[Any]) -> None:
        # asyncio turns Nagle's delay off only where it can see that the protocol is TCP.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
        app = server.streamable_http_app(json_response=json_response)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[listening])

    return serve


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--list-delay-ms", type=int, default=0)
    parser.add_argument("--start-delay-ms", type=int, default=0)
    options = parser.parse_args()
    time.sleep(options.start_delay_ms / 1000)
    serve = serve_stdio if options.http is None else serving_http(options.http)
    anyio.run(serve, LedgerServer(Ledger(options.ledger), options.list_delay_ms / 1000).server)


if __name__ == "__main__":
    main()
