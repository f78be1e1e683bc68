"""How a simulated downstream of the handshake era asks in the midst of a call: a request of its own to the engine."""

import asyncio
from typing import TYPE_CHECKING

import anyio
from mcp.shared.exceptions import MCPError
from simulation.ledger import Question
from simulation.probes import Rare

from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.downstream.session import OnAsk

if TYPE_CHECKING:
    from simulation.world import World

REFUSAL: Json = {"action": "error"}
"""Stands for the error with which a question was answered."""


class Asking:
    """One question on its way to an engine. `answer` resolves to a result or an error, or never."""

    def __init__(self, world: "World", process: int, question: Question, on_ask: OnAsk) -> None:
        self.question = question
        self.answer: asyncio.Future[Json | MCPError] = world.loop.create_future()
        self._world = world
        self._taken_back = anyio.Event()
        self._task = world.loop.spawn(process, self._put(on_ask))

    async def _put(self, on_ask: OnAsk) -> None:
        sdk._taken_back.set(self._taken_back)
        answer: Json | MCPError
        try:
            answer = await on_ask(self.question.request)
        except MCPError as error:
            answer = error
        if not self.answer.done():
            self.answer.set_result(answer)

    @property
    def content(self) -> Json:
        """What was answered."""
        answer = self.answer.result()
        return REFUSAL if isinstance(answer, MCPError) else answer

    def take_back(self) -> None:
        """The server needs no answer any more, and says so."""
        if not self.answer.done():
            self._world.note(Rare.QUESTION_TAKEN_BACK)
            self._taken_back.set()
            self._task.cancel()

    def cut_off(self) -> None:
        """Its session is over."""
        if not self.answer.done():
            self._task.cancel()
