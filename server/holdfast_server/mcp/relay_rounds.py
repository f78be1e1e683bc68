"""Rounds of input within `prompts/get` and `resources/read`, whatever eras client and downstream speak.

| client | downstream | what becomes of a question |
|---|---|---|
| 2026 | 2026 | `input_required` and its request state pass unchanged |
| 2025 | 2026 | is put to the client on its connection; then the downstream is asked again with the answers |
| 2025 | 2025 | is put to the client on its connection, while the downstream waits on a session leased for it |
| 2026 | 2025 | becomes `input_required`, while the request waits (see `suspended`) |
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from holdfast_server.mcp.caller import caller_of, is_modern
from holdfast_server.mcp.relay_stream import CallerStream
from holdfast_server.mcp.rounds import asker, brought, refused_state
from holdfast_server.mcp.suspended import PREFIX, Suspended, SuspendedRequests
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.owner import CONNECT_WAIT_S, Downstream
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.offerings import Owned
from holdfast_tools.questions import KEY, REFUSED
from holdfast_tools.rounds import INPUT_REQUIRED, Unanswered

ASKING = frozenset({"prompts/get", "resources/read"})
"""The methods besides `tools/call` that may be answered with `input_required` (specification 2026-07-28)."""

MOST_ROUNDS = 20
"""How often a downstream may ask before it has to answer."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Between requests of a downstream that asks nothing and only wants to be asked again."""

Context = ServerRequestContext[Any, Any]

Exchange = Callable[[Json, OnAsk | None, sdk.OnProgress | None, sdk.OnMessage | None], Awaitable[Json]]
"""Sends the request to its downstream: with these members besides its own, and who answers and hears meanwhile."""


class RelayRounds:
    """Has requests of clients answered by downstreams that may ask them back."""

    def __init__(self) -> None:
        self._suspended = SuspendedRequests()

    def resumed(self, ctx: Context) -> Suspended | None:
        """The request that `ctx` takes up again; None where it is a new one, or of a downstream that keeps its own.

        Raises MCPError (-32602) for a state of ours that cannot be taken up.
        """
        _, state = brought(ctx)
        if state is None or not state.startswith(PREFIX):
            return None
        suspended = self._suspended.take(state, _binding(ctx))
        if suspended is None:
            raise refused_state(
                f"What {ctx.method} asked was answered before, or not in time, or Holdfast was started anew since: "
                "send the request again without requestState and inputResponses."
            )
        return suspended

    async def go_on(self, ctx: Context, suspended: Suspended, stream: CallerStream) -> Json:
        """The result of a request that is taken up again with the answers of `ctx`, or what it asks next."""
        responses, _ = brought(ctx)
        answer = (responses or {}).get(KEY)
        if answer is None:  # nothing was answered: the question stands
            return self._suspended.keep(suspended).asked()
        suspended.answer(answer)
        return await self._turn(suspended, stream)

    async def answer(
        self, ctx: Context, owned: Owned, downstream: Downstream, stream: CallerStream, send: Exchange
    ) -> Json:
        """The downstream's result, or what it asks where the client is asked by being answered. Raises MCPError."""
        await downstream.connected(CONNECT_WAIT_S)  # before that nobody knows of which era it is
        if not downstream.asks_within(stream.profile):
            first = await send({}, None, *stream.ears)
            return first if is_modern(ctx) else await self._asked_again(ctx, stream, send, first)
        if is_modern(ctx):
            return await self._suspend(ctx, owned, stream, send)
        return await send({}, _put_to_client(ctx, stream.profile), *stream.ears)

    async def _suspend(self, ctx: Context, owned: Owned, stream: CallerStream, send: Exchange) -> Json:
        async def begin(on_ask: OnAsk) -> Json:
            progress = suspended.on_progress if stream.wants_progress else None
            return await send({}, on_ask, progress, suspended.on_message)

        suspended = Suspended(owned, _binding(ctx), stream.profile, begin)
        return await self._turn(suspended, stream)

    async def _turn(self, suspended: Suspended, stream: CallerStream) -> Json:
        result = await suspended.turn(stream)
        return result if result is not None else self._suspended.keep(suspended).asked()

    async def _asked_again(self, ctx: Context, stream: CallerStream, send: Exchange, result: Json) -> Json:
        """The result for a client of the handshake era: it is asked until the downstream has all it wants."""
        pause_s = FIRST_PAUSE_S
        for _ in range(MOST_ROUNDS):
            if result.get("resultType") != INPUT_REQUIRED:
                return result
            requests = result.get("inputRequests") or {}
            answers: Json = {"requestState": result.get("requestState")}
            if requests:
                answers["inputResponses"] = await _answers(ctx, stream.profile, requests)
            else:
                await anyio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            result = await send(answers, None, *stream.ears)
        raise MCPError(INTERNAL_ERROR, f"the downstream asked {MOST_ROUNDS} times and did not answer {ctx.method}")


async def _answers(ctx: Context, client: ClientProfile, requests: Json) -> Json:
    ask = asker(ctx, client)
    if ask is None:
        raise _cannot_be_asked(ctx)
    try:
        return await ask(requests)
    except Unanswered as refused:
        raise MCPError(INTERNAL_ERROR, f"the downstream asks for input to answer {ctx.method}: {refused}") from refused


def _put_to_client(ctx: Context, client: ClientProfile) -> OnAsk:
    async def put(request: Json) -> Json:
        ask = asker(ctx, client)
        if ask is None:
            raise _cannot_be_asked(ctx)
        try:
            answer: Json = (await ask({KEY: request}))[KEY]
        except Unanswered as refused:
            raise MCPError(REFUSED, str(refused)) from refused
        return answer

    return put


def _cannot_be_asked(ctx: Context) -> MCPError:
    return MCPError(
        INTERNAL_ERROR, f"the downstream asks for input to answer {ctx.method}; this client cannot be asked"
    )


def _binding(ctx: Context) -> object:
    """Whose request it is, and what it asks for: the same must come back."""
    params = {
        name: value
        for name, value in (ctx.params or {}).items()
        if name not in ("_meta", "inputResponses", "requestState")
    }
    caller = caller_of(ctx)
    return caller.tenant, caller.id, ctx.method, params
