"""Which session was sent to which URL, so that it, and nobody else, hears when its user is done there.

`notifications/elicitation/complete` is of 2025-11-25 alone: it names an elicitation and no client. A session is given
one by a request in URL mode, or by the error -32042 that lists some (specification 2025-11-25, elicitation).
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import URL_ELICITATION_REQUIRED

from holdfast_server.mcp.caller import is_modern
from holdfast_store.model.values import Json
from holdfast_tools import sdk

_GIVEN = "holdfast.elicitations"
"""Where the ids that a session was given stand in its connection's state."""

MOST_GIVEN = 1000
"""How many ids are kept for a session; then the oldest are forgotten. Servers need not tell of the end of any."""

Context = ServerRequestContext[Any, Any]


def note_request(ctx: Context, params: Json | None) -> None:
    """The session of `ctx` is sent this `elicitation/create`."""
    _note(ctx, (params or {},))


def note_error(ctx: Context, error: MCPError) -> None:
    """The session of `ctx` is answered with `error`."""
    data = error.error.data
    if error.code == URL_ELICITATION_REQUIRED and isinstance(data, dict) and isinstance(data.get("elicitations"), list):
        _note(ctx, data["elicitations"])


def was_given(connection: Connection, elicitation_id: object) -> bool:
    """Whether the session was given this elicitation and has not heard of its end: from now on it has."""
    given: dict[object, None] = connection.state.get(_GIVEN, {})
    if elicitation_id not in given:
        return False
    del given[elicitation_id]
    return True


def _note(ctx: Context, elicitations: Iterable[object]) -> None:
    if is_modern(ctx):
        return
    given: dict[object, None] = sdk.connection_of(ctx.session).state.setdefault(_GIVEN, {})
    given |= dict.fromkeys(
        one["elicitationId"]
        for one in elicitations
        if isinstance(one, dict) and one.get("mode") == "url" and isinstance(one.get("elicitationId"), str)
    )
    for oldest in tuple(islice(given, max(0, len(given) - MOST_GIVEN))):
        del given[oldest]
