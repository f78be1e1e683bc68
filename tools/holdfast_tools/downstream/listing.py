"""All that a server lists, page by page, exactly as it stands on the wire."""

from dataclasses import dataclass
from typing import Any

from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.downstream.answers import finite

MAX_PAGES = 100
MAX_ITEMS = 10_000

CACHE_HINTS = ("ttlMs", "cacheScope")
"""How long and for whom a result may be kept (specification 2026-07-28, caching)."""

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
"""The methods that list something, and where in the result it stands."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything of one kind that a server lists, and the cache hints of its first page."""

    items: tuple[Json, ...] = ()
    hints: Json | None = None


async def list_all(session: ClientSession, method: str, timeout_s: float) -> Listing:
    """Every item that the server lists by `method`. `timeout_s` bounds each page.

    A server without the method has none. Raises MCPError for the server's errors and DownstreamError for a listing
    that makes no sense or has no end.
    """
    member = LISTS[method]
    items: list[Json] = []
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    hints: Json | None = None
    for _ in range(MAX_PAGES):
        try:
            page = await sdk.request(session, method, params, timeout_s=timeout_s)
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND and not params:
                return Listing()
            raise
        listed = page.get(member)
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise DownstreamError(f"its {method} is not a list of {member}")
        if not params:
            hints = {name: page[name] for name in CACHE_HINTS if name in page}
        items.extend(finite(item) for item in listed)
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str):
            return Listing(tuple(items), hints or None)
        if cursor in cursors or len(items) > MAX_ITEMS:
            break
        cursors.add(cursor)
        params = {"cursor": cursor}
    raise DownstreamError(f"its {method} has no end: {len(items)} {member}, and a next page still")
