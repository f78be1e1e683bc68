"""All of MCP but tools: resources, prompts, completion and logging pass through to whose they are.

Results and errors stay as the downstream wrote them, but for what belongs to the other era, and for names and URIs that
clients see under another name (see `holdfast_tools.offerings`).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from holdfast_server.mcp.caller import caller_of, is_modern, is_over_http
from holdfast_server.mcp.capabilities import LATER_ONLY, cacheable
from holdfast_server.mcp.client_profile import profile_of, remember_handshake, remember_log_level, session_profile
from holdfast_server.mcp.listen import Subscriptions
from holdfast_server.mcp.relay_pages import common_hints, cursors, joined_cursor, renamed
from holdfast_server.mcp.relay_rounds import ASKING, RelayRounds
from holdfast_server.mcp.relay_stream import CallerStream, caller_stream
from holdfast_server.mcp.results import RESOURCE_NOT_FOUND, StoredResults
from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.admission import holder_of
from holdfast_tools.downstream.listing import LISTS
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.offerings import Offerings, Owned

log = logging.getLogger("holdfast.relay")

DECLARED_WAIT_S = 5.0
"""How long a client waits to be told what downstreams offer that never said it before."""

LOG_LEVEL_WAIT_S = 2.0
"""How long `logging/setLevel` waits for downstreams to take the level."""

_NOT_MINE = frozenset({INVALID_PARAMS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND})
"""Errors by which a downstream says that it does not know a name or URI: another one may."""

_RESOURCES = frozenset({"resources/list", "resources/templates/list", "resources/read"})
"""What is served whatever downstreams offer: results of calls are resources of Holdfast's own, though never listed."""

_CACHEABLE = frozenset({*LISTS, "resources/read"})

ROOTS_CHANGED = "notifications/roots/list_changed"

Context = ServerRequestContext[Any, Any]


class Relay:
    """Answers what is not about tools, for the agents' endpoint."""

    def __init__(
        self,
        offerings: Offerings,
        downstreams: Mapping[str, Downstream],
        subscriptions: Subscriptions,
        stored: StoredResults,
    ) -> None:
        self._stored = stored
        self._offerings = offerings
        self._downstreams = downstreams
        self._subscriptions = subscriptions
        self._rounds = RelayRounds()
        self._methods: dict[str, tuple[str | None, Callable[[Context], Awaitable[Json]]]] = {
            "resources/list": ("resources", self._list_resources),
            "resources/templates/list": ("resources", self._list_templates),
            "resources/read": ("resources", self._read),
            "resources/subscribe": ("resources", self._subscribe),
            "resources/unsubscribe": ("resources", self._unsubscribe),
            "prompts/list": ("prompts", self._list_prompts),
            "prompts/get": ("prompts", self._get_prompt),
            "completion/complete": ("completions", self._complete),
            "logging/setLevel": ("logging", self._set_log_level),
            "subscriptions/listen": (None, subscriptions.listen),
        }

    async def serves(self, method: str) -> bool:
        """Whether a request of this method is answered here: where some downstream declares what it takes."""
        if method not in self._methods:
            return False
        capability, _ = self._methods[method]
        if capability is None or method in _RESOURCES:
            return True
        await self.settled()
        return bool(self._offerings.with_capability(capability))

    async def answer(self, ctx: Context) -> Json:
        """The result of a method that is served. Raises MCPError, with a downstream's own error unchanged."""
        _, answer = self._methods[ctx.method]
        return self._of_the_callers_era(ctx, await answer(ctx))

    def welcome(self, ctx: Context) -> None:
        """A session of the handshake era begins: what it said is noted, and it is told of changes from now on."""
        remember_handshake(ctx)
        self._subscriptions.welcome(sdk.connection_of(ctx.session), caller_of(ctx), over_http=is_over_http(ctx))

    async def heard(self, ctx: Context) -> None:
        """A notification of a client: that its roots changed goes to the servers that asked for them."""
        if ctx.method == ROOTS_CHANGED and not is_modern(ctx):
            client, holder = session_profile(sdk.connection_of(ctx.session)), holder_of(caller_of(ctx))
            for downstream in tuple(self._downstreams.values()):
                await downstream.roots_changed(client, holder)

    async def capabilities(self) -> Json:
        """What downstreams declare together, besides tools."""
        await self.settled()
        return self._offerings.capabilities()

    def tool_hints(self) -> Json:
        """The cache hints for a listing of tools: the downstream's own where there is only one."""
        if len(self._downstreams) != 1:
            return {}
        (downstream,) = self._downstreams.values()
        return downstream.tool_hints

    async def settled(self) -> None:
        """Wait, at most `DECLARED_WAIT_S` from their start, for downstreams that never told what they offer."""
        unknown = [one for name, one in self._downstreams.items() if not self._offerings.declared(name)]
        if unknown:
            async with anyio.create_task_group() as tasks:
                for downstream in unknown:
                    tasks.start_soon(downstream.settled, DECLARED_WAIT_S)

    # --- lists ------------------------------------------------------------------------------------------------

    async def _list_resources(self, ctx: Context) -> Json:
        return await self._list(ctx, "resources", "uri", self._offerings.exposed_uri)

    async def _list_templates(self, ctx: Context) -> Json:
        return await self._list(ctx, "resources", "uriTemplate", self._offerings.exposed_template)

    async def _list_prompts(self, ctx: Context) -> Json:
        return await self._list(ctx, "prompts", "name", self._offerings.exposed_prompt)

    async def _list(self, ctx: Context, capability: str, member: str, exposed: Callable[[str, str], str]) -> Json:
        """One page. Of several downstreams it joins the next page of each, so that the first page is no poorer."""
        owners = self._offerings.with_capability(capability)
        listed = LISTS[ctx.method]

        def seen(owner: str, page: Json) -> list[Json]:
            items = page.get(listed)
            return [renamed(item, member, owner, exposed) for item in items] if isinstance(items, list) else []

        if len(owners) == 1:
            (owner,) = owners
            async with caller_stream(ctx, profile_of(ctx)) as stream:
                page = await self._ask(owner, ctx, stream)
            return {**page, listed: seen(owner, page)}
        pages = await self._pages(ctx, cursors((ctx.params or {}).get("cursor"), owners))
        result: Json = {listed: [item for owner, page in pages.items() for item in seen(owner, page)]}
        further = {owner: page["nextCursor"] for owner, page in pages.items() if page.get("nextCursor") is not None}
        if further:
            result["nextCursor"] = joined_cursor(further)
        return result | common_hints(list(pages.values()))

    async def _pages(self, ctx: Context, at: Mapping[str, str | None]) -> dict[str, Json]:
        """The page of each downstream at its cursor. One that fails is left out; raises MCPError where all do."""
        pages: dict[str, Json] = {}
        errors: list[MCPError] = []

        async def ask(owner: str, cursor: str | None, stream: CallerStream) -> None:
            try:
                pages[owner] = await self._ask(owner, ctx, stream, {"cursor": cursor})
            except MCPError as error:
                log.warning("a downstream is left out of a list", extra={"downstream": owner, "error": str(error)})
                errors.append(error)

        async with caller_stream(ctx, profile_of(ctx)) as stream, anyio.create_task_group() as tasks:
            for owner, cursor in at.items():
                tasks.start_soon(ask, owner, cursor, stream)
        if errors and not pages:
            raise errors[0]
        return {owner: pages[owner] for owner in at if owner in pages}

    # --- single things ----------------------------------------------------------------------------------------

    async def _read(self, ctx: Context) -> Json:
        uri = str((ctx.params or {})["uri"])
        if self._stored.owns(uri):
            return await self._stored.read(uri, caller_of(ctx), modern=is_modern(ctx))
        await self.settled()
        owned, result = await self._first(ctx, self._offerings.find_resource(uri), lambda name: {"uri": name})
        if owned.name != uri and isinstance(contents := result.get("contents"), list):
            result["contents"] = [
                {**item, "uri": uri} if isinstance(item, dict) and item.get("uri") == owned.name else item
                for item in contents
            ]
        return result

    async def _get_prompt(self, ctx: Context) -> Json:
        name = str((ctx.params or {})["name"])
        owners = self._offerings.find_prompt(name)
        if not owners:
            raise MCPError(INVALID_PARAMS, f'There is no prompt "{name}". "prompts/list" names what there is.')
        _, result = await self._first(ctx, owners, lambda name: {"name": name})
        return result

    async def _complete(self, ctx: Context) -> Json:
        ref = dict((ctx.params or {})["ref"])
        of_prompt = ref.get("type") == "ref/prompt"
        find = self._offerings.find_prompt if of_prompt else self._offerings.find_template
        member = "name" if of_prompt else "uri"
        able = self._offerings.with_capability("completions")
        owners = tuple(owned for owned in find(str(ref[member])) if owned.downstream in able)
        if not owners:
            raise MCPError(INVALID_PARAMS, f"No downstream completes arguments of {ref[member]!r}")
        _, result = await self._first(ctx, owners, lambda name: {"ref": {**ref, member: name}})
        return result

    async def _first(self, ctx: Context, owners: Sequence[Owned], changes: Callable[[str], Json]) -> tuple[Owned, Json]:
        """The answer of the first downstream that knows what is asked for. Raises the likeliest owner's error."""
        refusal: MCPError | None = None
        async with caller_stream(ctx, profile_of(ctx)) as stream:
            suspended = self._rounds.resumed(ctx)
            if suspended is not None:
                return suspended.owned, await self._rounds.go_on(ctx, suspended, stream)
            for owned in owners:
                try:
                    return owned, await self._answer_of(owned, ctx, stream, changes(owned.name))
                except MCPError as error:
                    refusal = refusal or error
                    if error.code not in _NOT_MINE:
                        break
        raise refusal or MCPError(INVALID_PARAMS, "No downstream is left that could know it")

    async def _answer_of(self, owned: Owned, ctx: Context, stream: CallerStream, changes: Json) -> Json:
        """What `owned` answers; in the methods where it may, it asks its client back on the way."""
        if ctx.method not in ASKING:
            return await self._ask(owned.downstream, ctx, stream, changes)

        async def send(
            members: Json, on_ask: OnAsk | None, progress: sdk.OnProgress | None, message: sdk.OnMessage | None
        ) -> Json:
            return await self._send(owned.downstream, ctx, stream, changes | members, on_ask, progress, message)

        return await self._rounds.answer(ctx, owned, self._downstream(owned.downstream), stream, send)

    def _downstream(self, name: str) -> Downstream:
        """The downstream of that name; raises MCPError where the config dropped it meanwhile."""
        try:
            return self._downstreams[name]
        except DownstreamError as error:
            raise _unavailable(error) from error

    async def _ask(self, owner: str, ctx: Context, stream: CallerStream, changes: Json | None = None) -> Json:
        return await self._send(owner, ctx, stream, changes or {}, None, *stream.ears)

    async def _send(
        self,
        owner: str,
        ctx: Context,
        stream: CallerStream,
        changes: Json,
        on_ask: OnAsk | None,
        on_progress: sdk.OnProgress | None,
        on_message: sdk.OnMessage | None,
    ) -> Json:
        """Send the request of `ctx` to one downstream, with `changes` to its params (None takes a member out)."""
        params = {name: value for name, value in (ctx.params or {}).items() if name != "_meta"} | changes
        try:
            return await self._downstreams[owner].request(
                ctx.method,
                {name: value for name, value in params.items() if value is not None or name not in changes},
                client=stream.profile,
                on_progress=on_progress,
                on_message=on_message,
                on_ask=on_ask,
                holder=holder_of(caller_of(ctx)),
            )
        except DownstreamError as error:
            raise _unavailable(error) from error

    # --- sessions of the handshake era ------------------------------------------------------------------------

    async def _subscribe(self, ctx: Context) -> Json:
        await self._subscriptions.subscribe(sdk.connection_of(ctx.session), str((ctx.params or {})["uri"]))
        return {}

    async def _unsubscribe(self, ctx: Context) -> Json:
        await self._subscriptions.unsubscribe(sdk.connection_of(ctx.session), str((ctx.params or {})["uri"]))
        return {}

    async def _set_log_level(self, ctx: Context) -> Json:
        """The level is the session's: it goes with each of its requests, or to the connections that have one."""
        level = str((ctx.params or {})["level"])
        remember_log_level(ctx, level)
        with anyio.move_on_after(LOG_LEVEL_WAIT_S):
            async with anyio.create_task_group() as tasks:
                for owner in self._offerings.with_capability("logging"):
                    tasks.start_soon(self._downstreams[owner].lower_log_level, level)
        return {}

    # --- eras -------------------------------------------------------------------------------------------------

    def _of_the_callers_era(self, ctx: Context, result: Json) -> Json:
        """What this era's result must hold, and nothing that only later ones know."""
        if is_modern(ctx):
            complete = result.get("resultType", "complete") == "complete"
            return {**result, **cacheable(result)} if complete and ctx.method in _CACHEABLE else result
        if result.get("resultType") == "input_required":
            raise MCPError(
                INTERNAL_ERROR, f"the downstream asks for input to answer {ctx.method}, which this client cannot give"
            )
        return {name: value for name, value in result.items() if name not in LATER_ONLY}


def _unavailable(error: DownstreamError) -> MCPError:
    return MCPError(INTERNAL_ERROR, str(error), {"code": error.code})
