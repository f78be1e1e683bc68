"""A client on the SDK's first line, `mcp<2`, in an environment of its own; asked for things on stdin, a JSON line each.

    python driver.py '{"url": ...}' | '{"command": ..., "args": [...], "env": {...}, "cwd": ...}'

It answers each line with one: `{"names": [...]}`, `{"words": ..., "is_error": ...}`, or `{"gave_up": true}`
where the patience of the call was at its end, which that SDK tells nobody.
"""

import json
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import anyio
import anyio.to_thread
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

TIMED_OUT = 408


async def connect(stack, where):
    """An initialized session, open as long as `stack` is."""
    transport = streamable_http_client(where["url"]) if "url" in where else stdio_client(StdioServerParameters(**where))
    read, write, *_ = await stack.enter_async_context(transport)
    session = await stack.enter_async_context(ClientSession(read, write))
    await session.initialize()
    return session


async def names(session):
    found, cursor = [], None
    while True:
        page = await session.list_tools(cursor)
        found += [tool.name for tool in page.tools]
        cursor = page.nextCursor
        if cursor is None:
            return {"names": found}


async def call(session, wanted):
    patience_s = wanted["patience_s"]
    patience = None if patience_s is None else timedelta(seconds=patience_s)
    try:
        result = await session.call_tool(wanted["tool"], wanted["arguments"], read_timeout_seconds=patience)
    except McpError as error:
        if error.error.code != TIMED_OUT:
            raise
        return {"gave_up": True}
    words = "\n".join(block.text for block in result.content)
    return {"words": words, "is_error": bool(result.isError)}


async def main():
    async with AsyncExitStack() as stack:
        session = await connect(stack, json.loads(sys.argv[1]))
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            wanted = json.loads(line)
            answer = await call(session, wanted) if "tool" in wanted else await names(session)
            print(json.dumps(answer), flush=True)


anyio.run(main)
