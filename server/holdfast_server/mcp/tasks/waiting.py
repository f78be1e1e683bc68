"""What a client hears while it waits for a call: how the call stands, as progress of the request that waits."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mcp.shared.exceptions import MCPError

from holdfast_server.mcp.payloads import iso
from holdfast_server.mcp.relay_stream import CallerStream
from holdfast_server.mcp.tasks.status import status_message
from holdfast_store.model.errors import HoldfastError, NotFound
from holdfast_store.model.values import Call
from holdfast_tools.client import Listener

log = logging.getLogger("holdfast.tasks")

TOLD_AFTER_S = 1.0
"""After how long a client that waits for its own call is told how it stands."""

TOLD_EVERY_S = 5.0
"""Often enough for a client whose patience progress renews."""


@asynccontextmanager
async def told_meanwhile(
    look: Callable[[], Awaitable[Call]], listener: Listener | None, total_s: float | None = None
) -> AsyncIterator[None]:
    """While the block runs, tell `listener` at once and then every `TOLD_EVERY_S` what the call waits for.

    Progress is in seconds, of `total_s` where the wait has an end. `look` reads the call; an error it
    raises ends the telling, not the wait.
    """
    if listener is None:
        yield
        return
    telling = asyncio.create_task(_tell(look, listener, total_s))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait((telling,))


@asynccontextmanager
async def told_inline(look: Callable[[str], Awaitable[Call]], stream: CallerStream) -> AsyncIterator[None]:
    """While the block runs, tell the client how its call stands: from `TOLD_AFTER_S` on, until its downstream tells.

    `look` reads the call by its id; one that is not stored runs.
    """
    if not stream.wants_progress:
        yield
        return
    telling = asyncio.create_task(_tell_inline(look, stream))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait((telling,))


async def _tell_inline(look: Callable[[str], Awaitable[Call]], stream: CallerStream) -> None:
    running = f"Running since {iso(time.time())}."
    await asyncio.sleep(TOLD_AFTER_S)
    while True:
        if stream.call_id is not None:
            try:
                call = await look(stream.call_id)
                words = None if call.ended else status_message(call)
            except NotFound:  # a read that is noted when it has ended
                words = running
            except HoldfastError as error:
                log.warning("a client that waits is told no more", extra={"error": str(error)})
                return
            if words is not None:
                stream.stand(words)
        await asyncio.sleep(TOLD_EVERY_S)


async def _tell(look: Callable[[], Awaitable[Call]], listener: Listener, total_s: float | None) -> None:
    began = time.monotonic()
    try:
        while True:
            call = await look()
            if not call.ended:
                listener.progress(round(time.monotonic() - began, 3), total_s, status_message(call))
            await asyncio.sleep(TOLD_EVERY_S)
    except (HoldfastError, MCPError) as error:
        log.warning("a client that waits is told no more", extra={"error": str(error)})
