"""The tasks that simulated downstreams make of calls: asked about, answered, cancelled, forgotten."""

import asyncio
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from simulation.asking import Asking
from simulation.ledger import Question, Sending, TaskFate
from simulation.loop import WORLD
from simulation.probes import Rare

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools.downstream.session import OnAsk

if TYPE_CHECKING:
    from simulation.downstream import Connection
    from simulation.server import Server
    from simulation.world import World

POLL_MS = 400

_OVER = frozenset({"completed", "failed", "cancelled"})


class Work:
    """One task. `asks` is how often it asks for input before its effect."""

    def __init__(self, world: "World", server: "Server", sending: Sending, *, core: bool, asks: int) -> None:
        self.fate = TaskFate(f"task-{sending.number}", core, [world.loop.time()])
        self.status = "working"
        self.questions: dict[str, Question] = {}
        self.changed = asyncio.Event()
        self._world = world
        self._server = server
        self._sending = sending
        self._asks = asks
        sending.task = self.fate
        self.process = sending.process
        world.note(Rare.TASK_MADE)
        self.doing = world.loop.spawn(WORLD, self._do())

    @property
    def is_over(self) -> bool:
        return self.status in _OVER

    async def _do(self) -> None:
        await asyncio.sleep(
            self._server.thinking_s() + self._world.random.choice((0.0, self._world.random.uniform(0.0, 15.0)))
        )
        for _ in range(self._asks):
            if not await self._ask():
                self._end("failed", self._server.answer(self._sending, fails=True))
                return
        if self._world.happens(self._world.plan.error):
            self._world.note(Rare.ERROR)
            self._end("failed", self._server.answer(self._sending, fails=True))
            return
        self._server.begin(self._sending)
        await asyncio.sleep(self._world.random.choice((0.001, self._world.random.uniform(0.0, 2.0))))
        self._end("completed", self._server.answer(self._sending, fails=False))

    async def _ask(self) -> bool:
        self._world.note(Rare.ASKED_BY_TASK)
        question = self._world.ledger.ask(self._sending, "task")
        self.questions = {question.key: question}
        self.fate.asking = True
        self._turn("input_required")
        while not question.received:
            await self.changed.wait()
        self.questions = {}
        self.fate.asking = False
        self._turn("working")
        return question.received[0].get("action") == "accept"

    def _end(self, status: str, answer: Json) -> None:
        self._sending.dead = self._sending.begun is None
        self._sending.failed = status == "failed"
        self.fate.answer = answer
        self._turn(status)

    def _turn(self, status: str) -> None:
        self.status = status
        self._world.log(f"task {status}", self._sending)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def take(self, responses: Json) -> None:
        """Answers came; those to what is not asked any more are ignored."""
        for key, content in responses.items():
            number = int(key.removeprefix("question-")) if key.startswith("question-") else 0
            if 0 < number <= len(self._world.ledger.questions):
                question = self._world.ledger.questions[number - 1]
                if question.sending is self._sending:
                    question.received.append(content)
        self._turn(self.status)

    def cancel(self) -> None:
        """It is to be cancelled; a downstream need not heed that, and cannot once the effect has begun."""
        if self.is_over:
            return
        if self._sending.begun is not None or self._world.random.random() < 0.15:
            self._world.note(Rare.TASK_GOES_ON)
            return
        self._world.note(Rare.TASK_CANCELLED)
        self.doing.cancel()
        self._sending.dead = True
        self.fate.cancelled = True
        self._turn("cancelled")

    def forget(self) -> None:
        """The process that did it has died."""
        if self.fate.gone is None and not self.is_over:
            self._world.note(Rare.TASK_LOST)
        self.doing.cancel()
        self._sending.dead = self._sending.begun is None
        self.fate.gone = self._world.moment()
        self._turn(self.status)


class TaskDesk:
    """Where a server answers for its tasks."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._works: dict[str, Work] = {}

    def add(self, work: Work) -> None:
        self._works[work.fate.id] = work

    def forget_all(self) -> None:
        """The server died, and kept nothing."""
        for work in self._works.values():
            work.forget()
        self._works.clear()

    async def answer(
        self, method: str, params: Json, connection: "Connection", on_ask: OnAsk | None, gone: asyncio.Future[None]
    ) -> Json:
        """Answer one request about a task, in the engine's own process. Raises MCPError where there is no such task."""
        work = self._works.get(params["taskId"])
        if work is None:
            raise MCPError(INVALID_PARAMS, "there is no such task")
        if connection.process != work.process:
            self._world.note(Rare.TASK_OUTLIVES_ENGINE)
        match method:
            case "tasks/get":
                return _shown(work)
            case "tasks/update":
                work.take(params["inputResponses"])
            case "tasks/cancel":
                work.cancel()
            case "tasks/result":
                return await self._result(work, connection, on_ask, gone)
        return {}

    def handed(self, method: str, params: Json) -> None:
        """The answer has reached an engine that lives."""
        work = self._works.get(params["taskId"])
        if work is None:
            return
        work.fate.heard.append(self._world.loop.time())
        says_it = ("tasks/get",) if work.status == "cancelled" or not work.fate.core else ("tasks/result",)
        if work.is_over and method in says_it:
            work.fate.told = work.fate.told or self._world.moment()

    async def _result(
        self, work: Work, connection: "Connection", on_ask: OnAsk | None, gone: asyncio.Future[None]
    ) -> Json:
        """The outcome of a core task, once there is one; who waits for it is asked what the task asks."""
        asking: Asking | None = None
        try:
            while not work.is_over:
                changed = asyncio.ensure_future(work.changed.wait())
                question = next((each for each in work.questions.values() if not each.received), None)
                if asking is None and on_ask is not None and question is not None:
                    asking = connection.ask(question, on_ask)
                waits: set[asyncio.Future[Any]] = {changed, gone}
                if asking is not None:
                    waits.add(asking.answer)
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if gone.done():
                    raise DownstreamError("the connection ended before the result came")
                if work.fate.gone is not None:
                    raise MCPError(INVALID_PARAMS, "there is no such task any more")
                if asking is not None and asking.answer.done():
                    work.take({asking.question.key: asking.content})
                    asking = None
        finally:
            if asking is not None:
                asking.take_back()
        answer = work.fate.answer
        if answer is None:
            raise MCPError(INVALID_PARAMS, "it was cancelled")
        if "error" in answer:
            raise MCPError(answer["error"]["code"], answer["error"]["message"])
        return dict(answer["result"])


def _shown(work: Work) -> Json:
    """The task as its status stands on the wire, in its era."""
    if work.fate.core:
        return {"taskId": work.fate.id, "status": work.status, "pollInterval": POLL_MS}
    shown: Json = {"taskId": work.fate.id, "status": work.status, "pollIntervalMs": POLL_MS}
    answer = work.fate.answer
    if work.questions:
        shown["inputRequests"] = {key: question.request for key, question in work.questions.items()}
    if answer is not None and "error" in answer:
        return {**shown, "status": "failed", "error": answer["error"]}
    if answer is not None:
        return {**shown, "status": "completed", "result": answer["result"]}
    return shown
