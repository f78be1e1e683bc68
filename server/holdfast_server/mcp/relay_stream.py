"""What a downstream tells on the way to its answer, on the response stream of the client that waits for that answer."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.context import ServerRequestContext
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params

from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile

log = logging.getLogger("holdfast.relay")

BACKLOG = 1000
"""How many notifications wait for a client that reads slowly; then the oldest are dropped."""

DRAIN_S = 2.0
"""How long an answer waits for what was told before it."""

STANDING_STEP = 1e-6
"""By how much progress grows that is told in words alone: it must grow with each notification, and the downstream's own
numbers, should they still come, must be greater (specification, progress)."""

Context = ServerRequestContext[object, object]


class CallerStream:
    """A `Listener`: what it hears goes out in order, before the answer and never after it.

    Costs nothing until something is told. `call_id` is the call that the request waits for, once there is one.
    """

    def __init__(self, ctx: Context, profile: ClientProfile) -> None:
        self.profile = profile
        self.call_id: str | None = None
        self._session = ctx.session
        self._token = progress_token_from_params(ctx.params)
        self._waiting: deque[tuple[str, Json]] = deque(maxlen=BACKLOG)
        self._sending: asyncio.Task[None] | None = None
        self._closed = False
        self._progressed = False
        self._reached: float | None = None

    @property
    def wants_progress(self) -> bool:
        """Whether the client asked for progress."""
        return self._token is not None

    @property
    def wants_messages(self) -> bool:
        """Whether the client takes log messages of any level."""
        return self.profile.wants_message("emergency")

    def follow(self, call_id: str) -> None:
        self.call_id = call_id

    def stand(self, message: str) -> None:
        """Tell in words how the request stands; nothing more once its downstream tells of its own progress."""
        if self._progressed:
            return
        self._tell_progress((self._reached or 0.0) + STANDING_STEP, None, message)

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Pass on what the downstream tells, unless progress would fall: another attempt begins anew."""
        self._progressed = True
        if self._reached is None or progress >= self._reached:
            self._tell_progress(progress, total, message)

    def _tell_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self._reached = progress
        if self._token is None:
            return
        params: Json = {"progressToken": self._token, "progress": _number(progress)}
        if total is not None:
            params["total"] = _number(total)
        if message is not None:
            params["message"] = message
        self._tell("notifications/progress", params)

    def message(self, params: Json) -> None:
        if self.profile.wants_message(params.get("level")):
            self._tell("notifications/message", params)

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """`progress`, in the form in which a downstream calls it."""
        self.progress(progress, total, message)

    @property
    def ears(self) -> tuple[sdk.OnProgress | None, sdk.OnMessage | None]:
        """What a request downstream is to call with progress and log messages, as far as the client wants them."""
        return self.on_progress if self.wants_progress else None, self.message if self.wants_messages else None

    async def drained(self) -> None:
        """Wait until all that was told is on its way, at most `DRAIN_S`."""
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=DRAIN_S)

    def close(self) -> None:
        """Nothing more: the answer comes next, or nobody waits for it."""
        self._closed = True
        if self._sending is not None:
            self._sending.cancel()

    def _tell(self, method: str, params: Json) -> None:
        if self._closed:
            return
        self._waiting.append((method, params))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            method, params = self._waiting.popleft()
            try:
                await sdk.tell(self._session, method, params)
            except Exception:
                log.exception("a notification could not be sent")


@asynccontextmanager
async def caller_stream(ctx: Context, profile: ClientProfile) -> AsyncIterator[CallerStream]:
    """The stream of one request, open while the block runs."""
    stream = CallerStream(ctx, profile)
    try:
        try:
            yield stream
        except Exception:
            await stream.drained()
            raise
        await stream.drained()
    finally:
        stream.close()


def _number(value: float) -> float:
    """A whole number as one: the SDK makes floats of all."""
    return int(value) if value.is_integer() else value
