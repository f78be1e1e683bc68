"""Structured results for clients of before 2026-07-28, to whom they are objects and nothing else.

Since 2026-07-28 an output schema may be any schema, and structured content any JSON value. An older client drops its
whole list of tools over one such schema, so it is not shown it, and reads such a value as text.
"""

import json
from collections.abc import Mapping
from typing import Any

from holdfast_store.model.values import Json
from holdfast_tools import sdk


def promises_object(definition: Mapping[str, Any]) -> bool:
    """Whether the tool's output schema is one of before 2026-07-28 (specification 2025-11-25, `Tool`)."""
    schema = definition.get("outputSchema")
    return isinstance(schema, Mapping) and schema.get("type") == "object"


def is_promised(definition: Mapping[str, Any], protocol_version: str | None) -> bool:
    """Whether a client of this version is told what the tool's results look like."""
    return "outputSchema" in definition and (sdk.is_modern(protocol_version) or promises_object(definition))


def described(definition: Json, protocol_version: str | None) -> Json:
    """The tool as a client of this version is told of it: the very same, unless it could not read it."""
    if "outputSchema" not in definition or is_promised(definition, protocol_version):
        return definition
    return {name: value for name, value in definition.items() if name != "outputSchema"}


def shown(result: Json, protocol_version: str | None) -> Json:
    """The result as a client of this version takes it: structured content that is no object becomes its text.

    A server should have written that text itself (specification 2026-07-28, server/tools, "Structured Content").
    """
    if "structuredContent" not in result or sdk.is_modern(protocol_version):
        return result
    value = result["structuredContent"]
    if isinstance(value, dict):
        return result
    rest = {name: value for name, value in result.items() if name != "structuredContent"}
    return rest if rest.get("content") else {**rest, "content": [{"type": "text", "text": _json(value)}]}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
