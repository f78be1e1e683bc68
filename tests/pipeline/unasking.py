"""A server of 2026-07-28 on its stdio that wants a call again, `times` times, and asks nothing."""

from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from support.ledger_server import schema, serve_stdio, text

TOOL = types.Tool(name="later", input_schema=schema(["times"], times={"type": "integer"}))


async def list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[TOOL])


async def call_tool(
    ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    seen = int(params.request_state or 0)
    if seen < (params.arguments or {})["times"]:
        return types.InputRequiredResult(request_state=str(seen + 1))
    return text(f"after {seen}")


def main() -> None:
    server: Server[Any] = Server("unasking", version="1", on_list_tools=list_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)
    anyio.run(serve_stdio, server)


if __name__ == "__main__":
    main()
