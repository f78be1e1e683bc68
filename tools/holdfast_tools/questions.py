"""What a downstream of the handshake era asks in the midst of an attempt, which goes on with the answer.

The attempt stays under way meanwhile: should its session or its engine die, the question dies with it.
"""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, METHOD_NOT_FOUND

from holdfast_store.model.values import Call, Json, Round
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.rounds import undeclared

KEY = "input"
"""Under which key such a question stands in its round: it is the only one there."""

REFUSED = -1
"""The error code by which clients refuse a request of a server (specification 2025-11-25, sampling)."""

TAKING_BACK_S = 10.0
"""How long a question that its server took back waits for the store to know of it."""

Open = Callable[[Round], Awaitable[bool]]
"""Puts a round to the requester; False where the call is no longer under way."""

Close = Callable[[int], Awaitable[None]]
"""Ends the round of that number without an answer."""


class Questions:
    """The questions of one attempt, one at a time, in the order in which they came."""

    def __init__(self, call: Call, put: Open, give_up: Close, answer_within_s: float) -> None:
        self._client = ClientProfile.from_json(call.client)
        self._number = call.round.number if call.round is not None else 0
        self._put = put
        self._give_up = give_up
        self._answer_within_s = answer_within_s
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Json | MCPError | None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the downstream waits for an answer now."""
        return self._answer is not None

    async def ask(self, request: Json) -> Json:
        """The requester's result for `request`. Raises MCPError where there is none."""
        lacking = undeclared({KEY: request}, self._client)
        if lacking:
            raise MCPError(METHOD_NOT_FOUND, f"The client did not declare {', '.join(lacking)}")
        async with self._turn:
            self._number += 1
            self._answer = asyncio.get_running_loop().create_future()
            try:
                if not await self._put(Round(self._number, {KEY: request}, attached=True)):
                    raise MCPError(INTERNAL_ERROR, "The call that this request belongs to is no longer under way")
                await asyncio.wait((self._answer,), timeout=self._answer_within_s)
                if not self._answer.done():
                    await self._give_up(self._number)
                    return unanswered_result(request)
                answer = self._answer.result()
                if isinstance(answer, MCPError):
                    raise answer
                return answer if answer is not None else unanswered_result(request)
            except asyncio.CancelledError:
                if sdk.is_taken_back():
                    with anyio.move_on_after(TAKING_BACK_S, shield=True):
                        await self._give_up(self._number)
                raise
            finally:
                self._answer = None

    def answered(self, answered: Round) -> None:
        """The round was answered: hand it to the downstream that waits."""
        if self._answer is not None and not self._answer.done() and answered.number == self._number:
            self._answer.set_result(answered.answers.get(KEY))

    def refused(self, reason: str) -> None:
        """The requester will not answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(MCPError(REFUSED, reason))


def unanswered_result(request: Json) -> Json:
    """What a downstream is told where nobody answers: an elicitation has a result for that. Raises MCPError."""
    if request.get("method") == "elicitation/create":
        return {"action": "cancel"}
    raise MCPError(REFUSED, "Nobody answered in time")
