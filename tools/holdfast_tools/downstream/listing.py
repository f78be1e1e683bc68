"""All tools of a server, page by page, exactly as they stand on the wire."""

from typing import Any

from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.downstream.answers import finite

MAX_PAGES = 100
MAX_TOOLS = 10_000


async def list_tools(session: ClientSession, timeout_s: float) -> tuple[Json, ...]:
    """Every tool that the server lists. `timeout_s` bounds each page.

    A server without the method has none. Raises MCPError for the server's errors and DownstreamError for a listing
    that makes no sense or has no end.
    """
    tools: list[Json] = []
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    for _ in range(MAX_PAGES):
        try:
            page = await sdk.request(session, "tools/list", params, timeout_s=timeout_s)
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND and not params:
                return ()
            raise
        listed = page.get("tools")
        if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
            raise DownstreamError("its tools/list is not a list of tools")
        tools.extend(finite(tool) for tool in listed)
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str):
            return tuple(tools)
        if cursor in cursors or len(tools) > MAX_TOOLS:
            break
        cursors.add(cursor)
        params = {"cursor": cursor}
    raise DownstreamError(f"its tools/list has no end: {len(tools)} tools, and a next page still")
