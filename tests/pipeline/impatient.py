"""A server of the handshake era on its stdio that takes its first question back, and asks another."""

import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from support.ledger_server import schema, text

PATIENCE_S = 0.3
TOOL = types.Tool(name="ask", input_schema=schema([]))


async def list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[TOOL])


async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    with anyio.move_on_after(PATIENCE_S):
        return text((await ask(ctx, "the first")).action)
    return text(f"taken back, then {(await ask(ctx, 'the second')).action}")


async def ask(ctx: ServerRequestContext[Any], message: str) -> types.ElicitResult:
    requested = schema(["name"], name={"type": "string"})
    params = types.ElicitRequestFormParams.model_validate({"message": message, "requestedSchema": requested})
    return await ctx.session.send_request(types.ElicitRequest(params=params), types.ElicitResult)


async def discovers_nothing(ctx: Any, params: types.RequestParams) -> dict[str, Any]:
    raise MCPError(types.METHOD_NOT_FOUND, "Method not found")


async def main() -> None:
    server: Server[Any] = Server("impatient", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    server.add_request_handler("server/discover", types.RequestParams, discovers_nothing)
    async with stdio_server() as (read, write):
        await serve_loop(server, read, write, lifespan_state=None)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
    anyio.run(main)
