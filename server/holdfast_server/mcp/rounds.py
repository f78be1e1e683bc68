"""Rounds of input on the wire: what a client brings, how it is asked, and the answer that asks it."""

from collections.abc import Mapping
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_server.mcp.caller import is_modern
from holdfast_server.mcp.url_elicitations import note_request
from holdfast_store.model.values import Call, Json, new_id
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.rounds import Ask, Unanswered, undeclared

Context = ServerRequestContext[Any, Any]

ANSWER_WITHIN_S = 3600.0
"""How long a client is waited for that is asked while its own request is under way."""

INVALID_REQUEST_STATE = "invalid_request_state"
"""The `data.reason` of the error for a `requestState` that cannot be taken up."""


def brought(ctx: Context) -> tuple[Json | None, str | None]:
    """The `inputResponses` and the `requestState` of a request; null counts as absent, as does the other era's.

    Raises `MCPError` (-32602) where they are not of the right shape.
    """
    params = ctx.params or {}
    responses, state = params.get("inputResponses"), params.get("requestState")
    if not is_modern(ctx):
        return None, None
    if responses is not None and not is_responses(responses):
        raise not_responses()
    if not isinstance(state, str | None):
        raise MCPError(INVALID_PARAMS, "params.requestState must be the string that came with what was asked")
    return responses, state


def is_responses(value: object) -> bool:
    """Whether `value` is of the shape of `inputResponses`."""
    return isinstance(value, Mapping) and all(isinstance(answer, Mapping) for answer in value.values())


def not_responses() -> MCPError:
    """The error for `inputResponses` that are of another shape."""
    return MCPError(INVALID_PARAMS, "params.inputResponses must be an object of answers, each an object, by their keys")


def refused_state(message: str) -> MCPError:
    """The error for a `requestState` that was altered, or is not to be used any more."""
    return MCPError(INVALID_PARAMS, message, {"reason": INVALID_REQUEST_STATE})


def input_required(call: Call, request_state: str) -> Json:
    """The answer of the stateless era to a request whose downstream asks: the downstream's own keys and requests."""
    result: Json = {"resultType": "input_required", "requestState": request_state}
    if call.round is not None and call.round.requests:
        result["inputRequests"] = call.round.unanswered
    return result


def asker(ctx: Context, client: ClientProfile) -> Ask | None:
    """How to ask the client of `ctx` while it waits: with requests of its era; None in the stateless one."""
    if is_modern(ctx) or not ctx.session.can_send_request:
        return None

    async def ask(requests: Json) -> Json:
        lacking = undeclared(requests, client)
        if lacking:
            raise Unanswered(f"the client did not declare {', '.join(lacking)}")
        answers: Json = {}

        async def put(key: str, request: Json) -> None:
            answers[key] = await _answer(ctx, request)

        try:
            async with anyio.create_task_group() as tasks:
                for key, request in requests.items():
                    tasks.start_soon(put, key, request)
        except* Unanswered as refusals:
            raise _first(refusals) from refusals
        return answers

    return ask


async def _answer(ctx: Context, request: Json) -> Json:
    method, params = str(request["method"]), _of_the_older_era(request.get("params"))
    note_request(ctx, params)
    try:
        answer: Any = await sdk.ask(ctx.session, method, params, ANSWER_WITHIN_S)
    except MCPError as error:
        raise Unanswered(f"the client answered {method} with error {error.code}: {error.message}") from error
    if not isinstance(answer, dict):
        raise Unanswered(f"the client answered {method} with what is no result")
    return answer


def _of_the_older_era(params: Json | None) -> Json | None:
    """The params of a request as a client of the handshake era reads them.

    An elicitation in URL mode has an id there, by which its end is told; since 2026-07-28 it has none.
    """
    if params is None or params.get("mode") != "url" or "elicitationId" in params:
        return params
    return {**params, "elicitationId": new_id()}


def _first(group: BaseExceptionGroup[Unanswered]) -> Unanswered:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Unanswered) else Unanswered(str(error))
