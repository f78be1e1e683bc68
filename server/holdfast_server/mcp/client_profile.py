"""What a client says of itself: in the envelope of each request since 2026-07-28, at its handshake before."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY

from holdfast_server.mcp.caller import is_modern
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import SILENT, ClientProfile

_PROFILE = "holdfast.profile"
"""Where the profile of a session of the handshake era stands in its connection's state."""

Context = ServerRequestContext[Any, Any]


def profile_of(ctx: Context) -> ClientProfile:
    """The client behind a request, with capabilities and info as they stood on the wire."""
    meta = meta_of(ctx)
    if not is_modern(ctx):
        profile = session_profile(sdk.connection_of(ctx.session))
        return replace(profile, protocol_version=ctx.protocol_version, meta=sdk.passed_on(meta))
    capabilities, info = meta.get(CLIENT_CAPABILITIES_META_KEY), meta.get(CLIENT_INFO_META_KEY)
    level = meta.get(LOG_LEVEL_META_KEY)
    return ClientProfile(
        protocol_version=ctx.protocol_version,
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        info=info if isinstance(info, dict) else None,
        log_level=level if isinstance(level, str) else None,
        meta=sdk.passed_on(meta),
    )


def session_profile(connection: Connection) -> ClientProfile:
    """The client behind a session of the handshake era."""
    profile = connection.state.get(_PROFILE, SILENT)
    return profile if isinstance(profile, ClientProfile) else SILENT


def remember_handshake(ctx: Context) -> None:
    """Note what an accepted `initialize` said."""
    params = ctx.params or {}
    capabilities, info = params.get("capabilities"), params.get("clientInfo")
    profile = ClientProfile(
        protocol_version=ctx.protocol_version,
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        info=info if isinstance(info, dict) else None,
    )
    sdk.connection_of(ctx.session).state[_PROFILE] = profile


def remember_log_level(ctx: Context, level: str) -> None:
    """Note what a session of the handshake era set by `logging/setLevel`."""
    connection = sdk.connection_of(ctx.session)
    connection.state[_PROFILE] = replace(session_profile(connection), log_level=level)


def meta_of(ctx: Context) -> Json:
    """The `_meta` of a request as it stood on the wire; empty without one."""
    meta = (ctx.params or {}).get("_meta")
    return dict(meta) if isinstance(meta, Mapping) else {}
