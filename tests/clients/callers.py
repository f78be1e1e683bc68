"""Clients that others wrote, each asked in the same three words: what is there, call this, and what did it say."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastmcp import Client as FastMcpClient
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import REQUEST_TIMEOUT, ContentBlock, TextContent

DEADLINE_S = 60.0

Where = StdioServerParameters | str
"""What a client spawns to reach Holdfast, or its URL."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a client got of a call: the words that a model reads, and whether they are an error."""

    words: str
    is_error: bool


class Caller(Protocol):
    """A connected client."""

    async def names(self) -> set[str]:
        """The tools that it sees, all pages of them."""

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        """Call a tool. Raises `TimeoutError` where the client itself gave up after `patience_s` seconds."""


Open = Callable[[Where], AbstractAsyncContextManager[Caller]]


def words_of(content: list[ContentBlock]) -> str:
    return "\n".join(block.text for block in content if isinstance(block, TextContent))


class SdkCaller:
    """The SDK's own client, of one era."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def names(self) -> set[str]:
        found: set[str] = set()
        cursor = None
        while True:
            page = await self._client.list_tools(cursor=cursor)
            found |= {tool.name for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        patience_s = DEADLINE_S if patience_s is None else patience_s
        try:
            result = await self._client.call_tool(tool, arguments, read_timeout_seconds=patience_s)
        except MCPError as error:
            raise given_up(error) from error
        return Said(words_of(result.content), result.is_error)


def given_up(error: MCPError) -> Exception:
    """`error`, or `TimeoutError` where it says that patience was at its end."""
    return TimeoutError() if error.error.code == REQUEST_TIMEOUT else error


def sdk(mode: str) -> Open:
    @asynccontextmanager
    async def opened(where: Where) -> AsyncIterator[Caller]:
        server = streamable_http_client(where) if isinstance(where, str) else where
        async with Client(server, mode=mode, cache=None, read_timeout_seconds=DEADLINE_S) as client:
            yield SdkCaller(client)

    return opened


class FastMcpCaller:
    """FastMCP's client."""

    def __init__(self, client: "FastMcpClient[Any]") -> None:
        self._client = client

    async def names(self) -> set[str]:
        return {tool.name for tool in await self._client.list_tools()}

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        try:
            result = await self._client.call_tool(tool, arguments, timeout=patience_s, raise_on_error=False)
        except MCPError as error:
            raise given_up(error) from error
        return Said(words_of(result.content), result.is_error)


def fastmcp_transport(where: Where) -> StdioTransport | StreamableHttpTransport:
    """A connection of FastMCP's, for its own client and for those built on it; a process ends with its client."""
    if isinstance(where, str):
        return StreamableHttpTransport(where)
    return StdioTransport(where.command, list(where.args), where.env, str(where.cwd), keep_alive=False)


@asynccontextmanager
async def fastmcp(where: Where) -> AsyncIterator[Caller]:
    async with FastMcpClient(fastmcp_transport(where), timeout=DEADLINE_S) as client:
        yield FastMcpCaller(client)
