"""The least a gateway can be: 40 lines on the SDK that pass calls on and check nothing. The floor to measure against.

python -m bench.thin_gateway DOWNSTREAM_URL PORT         over HTTP, to a downstream over HTTP
python -m bench.thin_gateway COMMAND [ARGUMENT ...]      on stdio, to a downstream on stdio
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from bench.downstream import serve_stdio
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

Context = ServerRequestContext[Client]


def thin_gateway(downstream: str | StdioServerParameters) -> Server[Client]:
    schemas: dict[str, dict[str, Any]] = {}

    @asynccontextmanager
    async def connected(_: Server[Client]) -> AsyncIterator[Client]:
        async with Client(downstream, mode="2026-07-28") as client:
            schemas.update({tool.name: tool.input_schema for tool in (await client.list_tools()).tools})
            yield client

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await ctx.lifespan_context.list_tools()

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await ctx.lifespan_context.call_tool(params.name, params.arguments)

    return Server(
        "thin", lifespan=connected, get_tool_input_schema=schemas.get, on_list_tools=list_tools, on_call_tool=call_tool
    )


if __name__ == "__main__":
    if sys.argv[1].startswith("http://"):
        uvicorn.run(thin_gateway(sys.argv[1]).streamable_http_app(), port=int(sys.argv[2]), log_level="warning")
    else:
        anyio.run(serve_stdio, thin_gateway(StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])))
