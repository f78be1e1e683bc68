"""The server behind every gateway: a read-only tool and a write tool that answer at once.

python -m bench.downstream PORT        over HTTP
python -m bench.downstream             on stdio
"""

import sys
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

INPUT = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0},
        "customer": {"type": "string", "minLength": 1, "maxLength": 64},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
    },
    "required": ["n", "customer"],
    "additionalProperties": False,
}

TOOLS = (
    types.Tool(
        name="lookup",
        description="Look a customer up.",
        input_schema=INPUT,
        annotations=types.ToolAnnotations(read_only_hint=True),
    ),
    types.Tool(
        name="record",
        description="Record something about a customer.",
        input_schema=INPUT,
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False),
    ),
)


async def list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=list(TOOLS))


async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    number = (params.arguments or {}).get("n")
    return types.CallToolResult(content=[types.TextContent(type="text", text=f"{params.name} {number}")])


def downstream() -> Server[Any]:
    return Server(
        "downstream",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema={tool.name: tool.input_schema for tool in TOOLS}.get,
    )


async def serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvicorn.run(downstream().streamable_http_app(), port=int(sys.argv[1]), log_level="warning")
    else:
        anyio.run(serve_stdio, downstream())
