"""Results on their way to a client, and what becomes of those that are too big for it.

One result of millions of tokens ends a conversation. Over the configured size a client is given the beginning and a
link; the whole is stored with its call, and whoever made the call reads it as a resource.
"""

import json
import re
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_server.mcp import meta
from holdfast_server.mcp.render import render
from holdfast_server.mcp.structured import is_promised, shown
from holdfast_server.mcp.tasks.status import outcome_is_kept
from holdfast_store.model.errors import NotFound
from holdfast_store.model.values import Call, Json, OutcomeKind, Principal
from holdfast_tools.catalog import Catalog
from holdfast_tools.operations import Operations
from holdfast_tools.request import Reply

PREVIEW_CHARACTERS = 4_000

LINKS_SINCE = "2025-06-18"
"""The first protocol version whose clients know content of the type `resource_link`."""

RESOURCE_NOT_FOUND = -32002
"""What a resource that is not there was before 2026-07-28; since then it is -32602."""

_URI = re.compile(r"holdfast://calls/([0-9a-f]{32})/result")


def result_uri(call_id: str) -> str:
    """The resource that the whole result of a call is."""
    return f"holdfast://calls/{call_id}/result"


class Results:
    """Renders replies within the sizes that the config sets. `max_bytes` is that of tools that set none."""

    def __init__(self, catalog: Catalog, max_bytes: int) -> None:
        self._catalog = catalog
        self._max_bytes = max_bytes

    def bound(self, max_bytes: int) -> None:
        """Pass on at most `max_bytes` of a result at once, where its tool sets nothing else."""
        self._max_bytes = max_bytes

    def render(
        self, reply: Reply, *, protocol_version: str | None, promised: bool = False, at_most: int | None = None
    ) -> Json:
        """The reply as a result, as a preview where it is too big.

        `promised`: the answer is given under a tool's own name and so under its output schema. `at_most` is a bound
        in bytes below the tool's own.
        """
        call = reply.call
        tool = self._catalog.find(call.tool)
        declares_output = (
            promised and tool is not None and tool.output is not None and is_promised(tool.definition, protocol_version)
        )
        result = shown(render(reply, has_output_schema=declares_output), protocol_version)
        if call.outcome is None or call.outcome.kind not in (OutcomeKind.RESULT, OutcomeKind.TOOL_ERROR):
            return result
        configured = tool.settings.max_result_bytes if tool is not None else None
        limit = configured or self._max_bytes
        limit = limit if at_most is None else min(limit, at_most)
        size = _size(result)
        if size <= limit:
            return result
        links = protocol_version is not None and protocol_version >= LINKS_SINCE
        return _preview(call, result, size, limit, links=links, promised=declares_output)


class StoredResults:
    """The whole results of calls, as resources for those who made them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def owns(self, uri: str) -> bool:
        """Whether `uri` names the result of a call."""
        return _URI.fullmatch(uri) is not None

    async def read(self, uri: str, principal: Principal, *, modern: bool) -> Json:
        """The answer to `resources/read`: the result as it came, as JSON.

        Raises MCPError where there is none, for another principal's exactly as for none.
        """
        found = _URI.fullmatch(uri)
        code = INVALID_PARAMS if modern else RESOURCE_NOT_FOUND
        try:
            call = await self._operations.own_call(found[1] if found else "", principal)
        except NotFound as error:
            raise MCPError(code, f"There is no resource {uri}", {"uri": uri}) from error
        outcome = call.outcome
        if outcome is None or outcome.kind not in (OutcomeKind.RESULT, OutcomeKind.TOOL_ERROR):
            raise MCPError(code, f"The call of {uri} has no result: it is {call.state.value}", {"uri": uri})
        if not outcome_is_kept(call):
            raise MCPError(code, f"The result {uri} is no longer kept; the call was executed", {"uri": uri})
        return {"contents": [{"uri": uri, "mimeType": "application/json", "text": _json(outcome.payload)}]}


def _preview(call: Call, result: Json, size: int, limit: int, *, links: bool, promised: bool) -> Json:
    """The beginning of `result`, and where the rest is. Structured content stays where it fits by itself."""
    uri = result_uri(call.id)
    sentence = (
        f"{call.tool} has finished. Its result takes {size:,} bytes, more than the {limit:,} that are passed on at "
        f"once, and is stored whole as the resource {uri}. What follows is its beginning. Do not repeat the call for "
        "the rest; ask for less where the tool lets you."
    )
    content: list[Json] = [{"type": "text", "text": sentence}, *_beginning(result["content"])]
    if links:
        name = f"The whole result of {call.tool}"
        content.append({"type": "resource_link", "uri": uri, "name": name, "mimeType": "application/json"})
    preview: Json = {key: result[key] for key in ("isError", "resultType") if key in result}
    preview |= {"content": content, "_meta": {meta.CALL: result["_meta"][meta.CALL]}}
    if "structuredContent" not in result:
        return preview
    whole = preview | {"structuredContent": result["structuredContent"]}
    if _size(whole) <= limit:
        return whole
    return preview | {"isError": True} if promised else preview


def _beginning(content: list[Any]) -> list[Json]:
    """The first texts, cut, and the names of what is no text."""
    shown: list[Json] = []
    left = PREVIEW_CHARACTERS
    for block in content:
        if left <= 0:
            break
        if not isinstance(block, dict):
            continue
        text = block.get("text")
        if block.get("type") != "text" or not isinstance(text, str):
            text = f"({block.get('type', 'content')} {block.get('mimeType', '')}".rstrip() + ", in the whole result)"
        cut = text if len(text) <= left else text[:left] + "…"
        left -= len(cut)
        shown.append({"type": "text", "text": cut})
    return shown


def _size(result: Json) -> int:
    return len(_json(result).encode("utf-8", "surrogatepass"))


def _json(result: Json) -> str:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"))
