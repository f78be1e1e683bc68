"""What Holdfast declares to a client: its tools, the results of calls as resources, and what downstreams offer."""

from collections.abc import Mapping
from typing import Any

from holdfast_store.model.values import Json

LATER_ONLY = ("resultType", "ttlMs", "cacheScope")
"""Members of results since 2026-07-28 that mean nothing to clients of before."""

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"
"""The extension by which clients of 2026-07-28 follow tasks (SEP-2663)."""

_OWN_EXTENSIONS = frozenset({TASKS_EXTENSION})
"""Extensions that Holdfast serves itself, whatever its downstreams do."""


def declare(result: Json, offered: Json) -> Json:
    """The result of `initialize` or `server/discover`, with what downstreams offer added to its capabilities."""
    own = result.get("capabilities")
    own = dict(own) if isinstance(own, Mapping) else {}
    extensions = {name: value for name, value in offered.get("extensions", {}).items() if name not in _OWN_EXTENSIONS}
    extensions |= own.get("extensions") or {}
    declared: Json = {**own, "resources": {}, **offered, "tools": {**(own.get("tools") or {}), "listChanged": True}}
    declared.pop("extensions", None)
    if extensions:
        declared["extensions"] = extensions
    return {**result, "capabilities": declared}


def cacheable(hints: Mapping[str, Any]) -> Json:
    """The cache hints that a result of 2026-07-28 must carry: those given, else that it may not be kept."""
    return {"ttlMs": hints.get("ttlMs", 0), "cacheScope": hints.get("cacheScope", "private")}
