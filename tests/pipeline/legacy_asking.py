"""The conformance fixture as a server of the handshake era alone: it asks back in the midst of a call.

    PYTHONPATH=tests python tests/pipeline/legacy_asking.py [--http]

On its stdio, or on a free port of loopback; then it prints ``listening on http://127.0.0.1:PORT/mcp``.
"""

import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from conformance.fixture.__main__ import build
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from support.ledger_server import serving_http


async def discovers_nothing(ctx: Any, params: types.RequestParams) -> dict[str, Any]:
    raise MCPError(types.METHOD_NOT_FOUND, "Method not found")


async def main() -> None:
    server = build(with_tasks=False)
    server.add_request_handler("server/discover", types.RequestParams, discovers_nothing)
    if "--http" in sys.argv:
        await serving_http(0, json_response=False)(server)
        return
    async with stdio_server() as (read, write):
        await serve_loop(server, read, write, lifespan_state=None)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
    anyio.run(main)
