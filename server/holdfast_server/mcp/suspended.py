"""Requests that wait at a downstream for the answer of a client that is asked by being answered.

A server of the handshake era asks in the midst of `prompts/get` or `resources/read`, and holds the request open
meanwhile. A client of 2026-07-28 is asked by `input_required` and comes back with a request of its own. Between the two
the first request waits here: in this process alone, since neither has an effect that would have to be kept, and since
what the server asked dies with its session anyway.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND

from holdfast_server.mcp.relay_stream import CallerStream
from holdfast_store.model.values import Json
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.offerings import Owned
from holdfast_tools.questions import KEY, unanswered_result
from holdfast_tools.rounds import INPUT_REQUIRED, undeclared

log = logging.getLogger("holdfast.relay")

ANSWER_WITHIN_S = 300.0
"""How long a downstream is kept waiting for an answer: meanwhile it holds one of its leased sessions."""

PREFIX = "hfr1."
"""How our request states begin, so that a lost one is told from a downstream's own."""

Send = Callable[[OnAsk], Awaitable[Json]]
"""Sends the request; what the downstream asks meanwhile is answered by the given function."""


class Suspended:
    """One request under way at `owned`, on behalf of whoever `binding` names.

    `question` is what the downstream waits for now, its `number`-th.
    """

    def __init__(
        self,
        owned: Owned,
        binding: object,
        client: ClientProfile,
        send: Send,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.owned = owned
        self.binding = binding
        self.question: Json | None = None
        self.number = 0
        self.stream: CallerStream | None = None
        self._client = client
        self._answer_within_s = answer_within_s
        self._one_at_a_time = asyncio.Lock()
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[Json] | None = None
        self._request = asyncio.ensure_future(send(self._ask))

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Progress goes to the request that waits at the time."""
        if self.stream is not None:
            self.stream.progress(progress, total, message)

    def on_message(self, params: Json) -> None:
        """As `on_progress`, for log messages."""
        if self.stream is not None:
            self.stream.message(params)

    def answer(self, answer: Json) -> None:
        """What the client says to the question that stands."""
        self.question = None
        self._asked.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    async def turn(self, stream: CallerStream) -> Json | None:
        """The result; None where there is a question now. `stream` hears what is told until then.

        Raises what sending raises. Cancelled, it gives the request up.
        """
        self.stream = stream
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((self._request, asked), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._request.cancel()
            raise
        finally:
            asked.cancel()
            self.stream = None
        return await self._request if self._request.done() else None

    def on_end(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once the request is over, however it ends."""

        def ended(request: asyncio.Future[Json]) -> None:
            callback()
            if not request.cancelled() and (error := request.exception()) is not None:
                log.debug("a request that was asked about ended by an error", exc_info=error)

        self._request.add_done_callback(ended)

    async def _ask(self, request: Json) -> Json:
        lacking = undeclared({KEY: request}, self._client)
        if lacking:
            raise MCPError(METHOD_NOT_FOUND, f"The client did not declare {', '.join(lacking)}")
        async with self._one_at_a_time:
            self._answer = asyncio.get_running_loop().create_future()
            self.question = request
            self.number += 1
            self._asked.set()
            try:
                await asyncio.wait((self._answer,), timeout=self._answer_within_s)
            finally:
                self.question = None
                self._asked.clear()
            return self._answer.result() if self._answer.done() else unanswered_result(request)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A suspended request, and the state that its client takes it up with."""

    suspended: Suspended
    state: str

    def asked(self) -> Json:
        """The answer of the stateless era that asks the client."""
        requests = {KEY: self.suspended.question} if self.suspended.question is not None else {}
        return {"resultType": INPUT_REQUIRED, "inputRequests": requests, "requestState": self.state}


class SuspendedRequests:
    """Those of one engine, by the state that was given out for a question of each: it can be used once, for that."""

    def __init__(self) -> None:
        self._by_state: dict[str, tuple[Suspended, int]] = {}

    def keep(self, suspended: Suspended) -> Waiting:
        """Until its client comes back, or it ends without."""
        state = PREFIX + secrets.token_urlsafe(32)
        self._by_state[state] = (suspended, suspended.number)
        suspended.on_end(lambda: self._by_state.pop(state, None))
        return Waiting(suspended, state)

    def take(self, state: str, binding: object) -> Suspended | None:
        """The request that `state` was given out for, to whoever is `binding`; None where there is none any more."""
        suspended, number = self._by_state.get(state, (None, 0))
        if suspended is None or suspended.binding != binding:
            return None
        if suspended.question is None or suspended.number != number:
            return None
        del self._by_state[state]
        return suspended
