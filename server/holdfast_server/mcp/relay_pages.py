"""Pages of lists that several downstreams fill together: their cursors, their cache hints, what clients see. Pure."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_store.model.values import Json
from holdfast_tools.downstream.listing import CACHE_HINTS


def renamed(item: Any, member: str, owner: str, exposed: Callable[[str, str], str]) -> Any:
    """A listed `item` of `owner` under the name, or URI, that clients know it by; itself where that is its own."""
    if not isinstance(item, dict) or not isinstance(name := item.get(member), str):
        return item
    seen = exposed(owner, name)
    return item if seen == name else {**item, member: seen}


def cursors(cursor: object, owners: Sequence[str]) -> dict[str, str | None]:
    """Where to go on at which of `owners`. Raises MCPError (-32602) for a cursor that was not given out here."""
    if cursor is None:
        return dict.fromkeys(owners)
    try:
        parts = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    if not isinstance(parts, dict) or not all(isinstance(value, str) for value in parts.values()):
        raise MCPError(INVALID_PARAMS, "the cursor is not one that this list gave out; leave it out to begin anew")
    return {owner: parts[owner] for owner in owners if owner in parts}


def joined_cursor(parts: Mapping[str, str]) -> str:
    """One cursor for the next pages of several downstreams, by their names."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def common_hints(pages: Sequence[Json]) -> Json:
    """The strictest cache hints of all pages; none where a page has none."""
    if not pages or not all(name in page for page in pages for name in CACHE_HINTS):
        return {}
    scopes = {page["cacheScope"] for page in pages}
    return {
        "ttlMs": min(page["ttlMs"] for page in pages),
        "cacheScope": "public" if scopes == {"public"} else "private",
    }
