"""A server that offers everything MCP has besides tools, in both eras or in the older one only.

    python offering.py LOG [--name NAME] [--legacy] [--http] [--counting]

With ``--counting`` a tool and a prompt are named after how often it was started. It speaks on its stdio; with
``--http`` it prints ``listening on URL`` instead. What clients ask of it beyond an answer is appended to LOG:
subscriptions, log levels, cancels.
"""

import argparse
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY
from older import on_stdio, over_http

Context = ServerRequestContext[Any, Any]

NOTIFIED = 5
"""How often one change is told: some servers do."""

READ = types.ToolAnnotations(read_only_hint=True)
WRITE = types.ToolAnnotations(read_only_hint=False, destructive_hint=False)
SCHEMA: dict[str, Any] = {"type": "object"}
TOOLS = (
    types.Tool(name="who", input_schema=SCHEMA, annotations=READ),
    types.Tool(name="look", input_schema=SCHEMA, annotations=READ),
    types.Tool(name="work", input_schema=SCHEMA, annotations=WRITE),
    types.Tool(name="change", input_schema=SCHEMA, annotations=WRITE),
    types.Tool(name="touch", input_schema=SCHEMA, annotations=WRITE),
    types.Tool(name="demand", input_schema=SCHEMA, annotations=WRITE),
    types.Tool(name="die", input_schema=SCHEMA, annotations=WRITE),
)
STARTED = "started"
CHANGES = {"tools": ToolsListChanged, "prompts": PromptsListChanged, "resources": ResourcesListChanged}
CHANGED = {"tools": "tool", "prompts": "prompt", "resources": "resource"}


class Offering:
    """The server and its state."""

    def __init__(self, name: str, log: Path, *, counting: bool) -> None:
        self.name = name
        self.log = log
        self.tools = list(TOOLS)
        self.bus = InMemorySubscriptionBus()
        self.prompts = ["greet", f"only_{name}"]
        self.resources = ["shared://notes", f"{name}://one", f"{name}://two"]
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        self.server: Server[Any] = Server(
            name,
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.unsubscribe,
            on_completion=self.complete,
            on_set_logging_level=self.set_level,
            on_subscriptions_listen=self.listen,
        )
        self._listen = ListenHandler(self.bus)
        if counting:
            self.note(STARTED)
            start = f"start_{log.read_text().splitlines().count(STARTED)}"
            self.prompts.append(start)
            self.tools.append(types.Tool(name=start, input_schema=SCHEMA, annotations=READ))

    def note(self, *words: object) -> None:
        with self.log.open("a") as file:
            file.write(" ".join(str(word) for word in words) + "\n")

    async def list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self.tools, ttl_ms=60_000, cache_scope="public")

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        given = params.arguments or {}
        match params.name:
            case "who":
                return text(json.dumps(self.caller(ctx)))
            case "look" | "work":
                for number, level in enumerate(("debug", "info", "error"), 1):
                    await ctx.session.report_progress(number, 3, f"step {number}")
                    await ctx.session.send_log_message(level, {"step": number}, self.name, ctx.request_id)
            case "change":
                await self.change(ctx, given["what"])
            case "touch":
                await self.bus.publish(ResourceUpdated(uri=given["uri"]))
                if ctx.session.protocol_version < "2026":
                    await ctx.session.send_resource_updated(given["uri"])
            case "die":
                os._exit(1)
            case "demand":
                wanted = {"requiredCapabilities": {"sampling": {}}}
                raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "It takes sampling", wanted)
        return text("done")

    def caller(self, ctx: Context) -> dict[str, Any]:
        """What this server knows of its client, and what came in `_meta`."""
        params = ctx.session.client_params
        known = ctx.session.client_capabilities
        return {
            "capabilities": known.model_dump(by_alias=True, exclude_none=True) if known is not None else None,
            "client": params.client_info.name if params is not None else None,
            "meta": dict((ctx.params or {}).get("_meta") or {}),
        }

    async def change(self, ctx: Context, what: str) -> None:
        match what:
            case "prompts":
                self.prompts.append(f"{self.name}_more")
            case "resources":
                self.resources.append(f"{self.name}://more")
            case _:
                self.tools.append(types.Tool(name="more", input_schema=SCHEMA, annotations=READ))
        for _ in range(NOTIFIED):
            await self.bus.publish(CHANGES[what]())
            if ctx.session.protocol_version < "2026":
                await getattr(ctx.session, f"send_{CHANGED[what]}_list_changed")()

    async def list_prompts(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[types.Prompt(name=name, title=f"{name} of {self.name}") for name in self.prompts],
            ttl_ms=1000,
            cache_scope="public",
        )

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        if params.name not in self.prompts:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name}", {"prompt": params.name})
        words = types.TextContent(type="text", text=f"{params.name} of {self.name}")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=words)])

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """Two to a page."""
        start = int(params.cursor) if params is not None and params.cursor else 0
        page = self.resources[start : start + 2]
        more = str(start + 2) if start + 2 < len(self.resources) else None
        return types.ListResourcesResult(
            resources=[types.Resource(uri=uri, name=uri, _meta={"owner": self.name}) for uri in page],
            next_cursor=more,
            ttl_ms=5000,
            cache_scope="private",
        )

    async def list_templates(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(uri_template=f"{self.name}://by/{{id}}", name="by-id")
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        if uri == f"{self.name}://by/wait":
            self.note("waiting")
            try:
                await anyio.sleep(60)
            except anyio.get_cancelled_exc_class():
                self.note("cancelled")
                raise
        if uri not in self.resources and not uri.startswith((f"{self.name}://by/", f"{self.name}-unlisted://")):
            raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})
        await ctx.session.report_progress(1, 2)
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=f"{uri} of {self.name}")])

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        self.note("subscribe", params.uri)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self.note("unsubscribe", params.uri)
        return types.EmptyResult()

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        uris = params.notifications.resource_subscriptions or []
        for uri in uris:
            self.note("subscribe", uri)
        try:
            return await self._listen(ctx, params)
        finally:
            for uri in uris:
                self.note("unsubscribe", uri)

    async def complete(self, ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        about = params.ref.name if isinstance(params.ref, types.PromptReference) else str(params.ref.uri)
        values = [f"{about} {params.argument.value} of {self.name}"]
        return types.CompleteResult(completion=types.Completion(values=values, total=1, has_more=False))

    async def set_level(self, ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        self.note("level", params.level)
        return types.EmptyResult()


def text(words: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--name", default="offering")
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--counting", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    options.log.touch()
    options.log.read_text()
    offering = Offering(options.name, options.log, counting=options.counting)
    if options.http:
        anyio.run(lambda: over_http(offering.server, legacy=options.legacy))
    else:
        anyio.run(lambda: on_stdio(offering.server, legacy=options.legacy))


if __name__ == "__main__":
    main()
