"""A server that describes what it has with everything a description may hold, and more.

    python verbatim.py LOG [--legacy] [--http] [--rows]

`regions` tells which headers came with it. With ``--rows`` there are tools that no client of before 2026-07-28 could
list: `rows` and `bare` give structured content that is no object, the latter without any text.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from older import on_stdio, over_http

Context = ServerRequestContext[Any, Any]
Json = dict[str, Any]

ICONS = [types.Icon(src="https://example.com/icon.png", mime_type="image/png", sizes=["48x48"], theme="dark")]
META = {"example.com/kept": {"deep": [1, 2.5, None, "ü"]}}
NOTES = types.Annotations(audience=["user"], priority=0.3, last_modified="2026-01-01T00:00:00Z")
INPUT: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/schemas/input",
    "title": "Input",
    "type": "object",
    "x-vendor": {"order": ["z", "a"], "nothing": None},
    "properties": {
        "zeta": {"$ref": "#/$defs/tree", "default": {"leaf": 1.0}},
        "alpha": {"$ref": "#anchored", "examples": ["é"]},
        "region": {"type": "string", "x-mcp-header": "Region"},
    },
    "additionalProperties": False,
    "$defs": {
        "tree": {"type": "object", "properties": {"child": {"$ref": "#/$defs/tree"}, "leaf": {"type": "number"}}},
        "named": {"$anchor": "anchored", "type": ["string", "null"], "$comment": "kept"},
    },
}
OUTPUT: Json = {"type": "object", "properties": {"kept": {"$ref": "#/$defs/kept"}}, "$defs": {"kept": {"const": 1.0}}}
ROWS: Json = {"type": "array", "items": {"type": "integer"}}
READ = types.ToolAnnotations(title="Reads", read_only_hint=True, open_world_hint=False)


def tools(*, with_rows: bool) -> list[types.Tool]:
    described = types.Tool(
        name="described",
        title="Described",
        description="Everything at once: \u2028 and <b>",
        input_schema=INPUT,
        output_schema=OUTPUT,
        annotations=READ,
        icons=ICONS,
        _meta=META,
    )
    regions = types.Tool(name="regions", input_schema=INPUT, annotations=READ)
    if not with_rows:
        return [described, regions]
    rows, bare = (
        types.Tool(name=name, input_schema={"type": "object"}, output_schema=ROWS, annotations=READ)
        for name in ("rows", "bare")
    )
    return [described, regions, rows, bare]


class Verbatim:
    """The server."""

    def __init__(self, *, with_rows: bool) -> None:
        self.tools = tools(with_rows=with_rows)
        self.server: Server[Any] = Server(
            "verbatim",
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read,
            get_tool_input_schema=lambda name: next(
                (tool.input_schema for tool in self.tools if tool.name == name), None
            ),
        )

    async def list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self.tools, ttl_ms=7000, cache_scope="private")

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        match params.name:
            case "regions":
                headers = dict(ctx.request.headers) if ctx.request is not None else {}
                words = json.dumps({name: value for name, value in headers.items() if name.startswith("mcp-param-")})
                return types.CallToolResult(content=[types.TextContent(type="text", text=words)])
            case "rows":
                content = [types.TextContent(type="text", text="one and two")]
                return types.CallToolResult(content=content, structured_content=[1, 2])
            case "bare":
                return types.CallToolResult(content=[], structured_content=[1, 2])
        blocks: list[types.ContentBlock] = [
            types.TextContent(type="text", text="words", annotations=NOTES, _meta=META),
            types.ImageContent(type="image", data="aGk=", mime_type="image/png"),
            types.ResourceLink(type="resource_link", uri="kept://one", name="one", icons=ICONS, _meta=META),
        ]
        return types.CallToolResult(content=blocks, structured_content={"kept": 1.0}, _meta=META)

    async def list_prompts(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        argument = types.PromptArgument(name="who", title="Who", description="Whom", required=True)
        prompt = types.Prompt(name="told", title="Told", arguments=[argument], icons=ICONS, _meta=META)
        return types.ListPromptsResult(prompts=[prompt], _meta=META)

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        inner = types.TextResourceContents(uri="kept://one", text=str(params.arguments), mime_type="text/plain")
        block = types.EmbeddedResource(type="resource", resource=inner, annotations=NOTES, _meta=META)
        message = types.PromptMessage(role="assistant", content=block)
        return types.GetPromptResult(messages=[message], description="A prompt", _meta=META)

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        resource = types.Resource(
            uri="kept://one", name="one", title="One", size=3, icons=ICONS, annotations=NOTES, _meta=META
        )
        return types.ListResourcesResult(resources=[resource], _meta=META)

    async def list_templates(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template="kept://{id}{?q*}", name="any", mime_type="text/plain", icons=ICONS, _meta=META
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        contents = types.BlobResourceContents(uri=params.uri, blob="aGk=", mime_type="image/png", _meta=META)
        return types.ReadResourceResult(contents=[contents], ttl_ms=9000, cache_scope="public", _meta=META)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--rows", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    serve = over_http if options.http else on_stdio
    anyio.run(lambda: serve(Verbatim(with_rows=options.rows).server, legacy=options.legacy))


if __name__ == "__main__":
    main()
