"""A server whose prompts and resources ask their client for something before they are given.

    python inquiring.py LOG [--legacy] [--http]

In the stateless era it asks by `input_required`, before that in the midst of the request. The prompt `greet` and the
resource `ask://name` want a name, `ask://model` what the client's model says, `ask://roots` the client's roots,
`ask://twice` two names, one after the other, and `ask://visit` sends its user to a URL; what the user is done with
there, the tool `visited` tells. `demand` is refused until its user was at a URL. What it is told of roots is appended
to LOG, as is each request that it gave up.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError, UrlElicitationRequiredError
from mcp_types import INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from older import on_stdio, over_http

Context = ServerRequestContext[Any, Any]
Json = dict[str, Any]

VISIT = "visit-1"
URL = "https://example.com/sign-in"
SCHEMA: Json = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Asks(Exception):
    """The request ends here; its client comes again with the answers."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("more input")
        self.result = result


class Inquiring:
    """The server and its log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.server: Server[Any] = Server(
            "inquiring",
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_list_resources=self.list_resources,
            on_read_resource=self.read,
        )
        self.server.add_notification_handler(
            "notifications/roots/list_changed", types.NotificationParams, self.roots_changed
        )

    def note(self, words: str) -> None:
        with self.log.open("a") as file:
            file.write(words + "\n")

    async def roots_changed(self, ctx: Context, params: types.NotificationParams | None) -> None:
        self.note("roots changed")

    async def list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        harmless = types.ToolAnnotations(read_only_hint=True)
        names = ("visited", "demand", "roots")
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema={"type": "object"}, annotations=harmless) for name in names]
        )

    async def call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        if params.name == "demand":
            raise UrlElicitationRequiredError([visit()])
        if params.name == "roots":
            try:
                words = json.dumps(await self.ask(ctx, params, "ask", types.ListRootsRequest()))
            except Asks as asks:
                return asks.result
        else:
            await ctx.session.send_elicit_complete(VISIT)
            words = "told"
        return types.CallToolResult(content=[types.TextContent(type="text", text=words)])

    async def list_prompts(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[types.Prompt(name="greet")])

    async def get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        try:
            words = f"Greet {await self.name(ctx, params, 'ask')}"
        except Asks as asks:
            return asks.result
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=words))
        return types.GetPromptResult(messages=[message])

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        names = ("name", "model", "roots", "twice", "visit", "later")
        return types.ListResourcesResult(resources=[types.Resource(uri=f"ask://{name}", name=name) for name in names])

    async def read(
        self, ctx: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult | types.InputRequiredResult:
        try:
            words = await self.found(ctx, params)
        except Asks as asks:
            return asks.result
        except anyio.get_cancelled_exc_class():
            self.note("given up")
            raise
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text=words)])

    async def found(self, ctx: Context, params: types.ReadResourceRequestParams) -> str:
        await ctx.session.report_progress(1, 2, "looking")
        match str(params.uri):
            case "ask://name":
                return await self.name(ctx, params, "ask")
            case "ask://twice":
                first = await self.name(ctx, params, "first")
                return f"{first} and {await self.name(ctx, params, 'second')}"
            case "ask://model":
                words = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Say hi"))
                wanted = types.CreateMessageRequestParams(messages=[words], max_tokens=10)
                answer = await self.ask(ctx, params, "ask", types.CreateMessageRequest(params=wanted))
                return str(answer["content"]["text"])
            case "ask://roots":
                answer = await self.ask(ctx, params, "ask", types.ListRootsRequest())
                return ", ".join(root["uri"] for root in answer["roots"])
            case "ask://visit":
                answer = await self.ask(ctx, params, "ask", types.ElicitRequest(params=visit()))
                return str(answer["action"])
            case "ask://later":
                return self.later(ctx, params)
        raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": str(params.uri)})

    def later(self, ctx: Context, params: types.ReadResourceRequestParams) -> str:
        """Asks nothing, and wants to be asked again: the stateless era can say so."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and params.request_state is None:
            raise Asks(types.InputRequiredResult(request_state="once more"))
        return "now"

    async def name(self, ctx: Context, params: Any, key: str) -> str:
        asked = types.ElicitRequestFormParams(message=f"Which name ({key})?", requested_schema=SCHEMA)
        answer = await self.ask(ctx, params, key, types.ElicitRequest(params=asked))
        return str(answer["content"]["name"]) if answer["action"] == "accept" else f"nobody ({answer['action']})"

    async def ask(self, ctx: Context, params: Any, key: str, request: types.InputRequest) -> Json:
        """The client's answer, as it came. Answers of earlier rounds are kept in the state."""
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            sent = request.model_dump(by_alias=True, mode="json", exclude_none=True)
            return await ctx.session._request_outbound.send_raw_request(sent["method"], sent.get("params"))
        known = json.loads(params.request_state or "{}")
        for name, answer in (params.input_responses or {}).items():
            known[name] = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        if key not in known:
            raise Asks(types.InputRequiredResult(input_requests={key: request}, request_state=json.dumps(known)))
        answered: Json = known[key]
        return answered


def visit() -> types.ElicitRequestURLParams:
    return types.ElicitRequestURLParams(message="Sign in", url=URL, elicitation_id=VISIT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--http", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    serve = over_http if options.http else on_stdio
    anyio.run(lambda: serve(Inquiring(options.log).server, legacy=options.legacy))


if __name__ == "__main__":
    main()
