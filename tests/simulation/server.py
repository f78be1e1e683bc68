"""A simulated downstream server: a process that outlives engines, with effects that go on whatever becomes of these."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation.ledger import Question, Sending
from simulation.loop import WORLD
from simulation.offer import HANDSHAKE, SKETCHES
from simulation.probes import Rare
from simulation.remote_tasks import TaskDesk, Work

from holdfast_store.model.values import Json
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Answered
from holdfast_tools.downstream.session import OnAsk

if TYPE_CHECKING:
    from simulation.downstream import Connection, SentDispatch
    from simulation.world import World


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came with a request besides its arguments, where its answer goes, and when its connection is `gone`."""

    dispatch: "SentDispatch"
    connection: "Connection"
    members: Json
    client: ClientProfile
    on_ask: OnAsk | None
    gone: asyncio.Future[None]

    @property
    def can_ask(self) -> bool:
        """Whether its client says that it can be asked."""
        return "elicitation" in self.client.capabilities


class Server:
    """Its requests live as long as it does, answered or not. A durable one keeps its tasks when it dies."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.edition = 0
        self.tasks = TaskDesk(world)
        self._world = world
        self._life = 0
        self._durable = world.random.random() < 0.5
        self._connection: Connection | None = None
        self._by_key: dict[str, Sending] = {}
        self._rounds: dict[str, tuple[int, tuple[Question, ...]]] = {}

    @property
    def is_modern(self) -> bool:
        """Whether it speaks the stateless era: it asks by rounds, and its tasks are those of the extension."""
        return self.name != HANDSHAKE

    def connect(self, connection: "Connection") -> None:
        self._connection = connection

    def cut(self, why: str) -> None:
        """The connection ends; what has arrived goes on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._world.log("cut", self.name, why)
            connection.over(why)

    def die(self) -> None:
        """The process ends: what has not begun never will, what has begun stays begun."""
        self._life += 1
        self._world.note(Rare.DEATH)
        self._world.log("dies", self.name)
        if not self._durable:
            self.tasks.forget_all()
        self.cut("the server died")

    def receive(self, sending: Sending, arrival: Arrival) -> None:
        """A request was written; whether it arrives is another question."""
        self._world.loop.spawn(WORLD, self._serve(sending, arrival, self._life))

    async def _serve(self, sending: Sending, arrival: Arrival, life: int) -> None:
        world, random = self._world, self._world.random
        await asyncio.sleep(random.uniform(0.0001, 0.01))
        if life != self._life or world.happens(world.plan.vanish):
            sending.dead = True
            world.note(Rare.REQUEST_VANISHES)
            world.log("arrives nowhere", sending)
            await asyncio.sleep(random.uniform(0.0, 60.0))
            if life == self._life:
                self.die()
            return
        await asyncio.sleep(self.thinking_s())
        answer = await self._work(sending, arrival, life) if life == self._life else None
        if answer is None:
            sending.dead = sending.begun is None
            return
        await asyncio.sleep(random.choice((0.0, 0.001, random.uniform(0.0, 1.0))))
        if life != self._life:
            world.note(Rare.ANSWER_LOST)
            return
        sending.answer = answer
        await asyncio.sleep(random.uniform(0.0001, 0.01))
        if life == self._life and not arrival.gone.done():
            core = sending.task is not None and sending.task.core
            arrival.dispatch.answered(sending, Answered(**answer, core_task=core))
        else:
            world.note(Rare.ANSWER_LOST)

    async def _work(self, sending: Sending, arrival: Arrival, life: int) -> Json | None:
        """The answer to a request that has arrived; None where there will be none."""
        world, sketch = self._world, SKETCHES[sending.tool]
        asks = min(sketch.questions, world.random.choice((0, 1, 1, 2))) if arrival.can_ask else 0
        if sketch.questions and not arrival.can_ask and world.random.random() < 0.1:
            world.note(Rare.ASKED_IN_VAIN)
            asks = 1
        if sketch.makes_task and (self.is_modern or "task" in arrival.members):
            return self._make_task(sending, asks)
        if sketch.questions and self.is_modern:
            return self._by_rounds(sending, arrival.members, asks)
        for _ in range(asks if arrival.on_ask is not None else 0):
            content = await self._ask_within(sending, arrival)
            if content is None or life != self._life:
                if life == self._life and world.random.random() < 0.3:
                    self.begin(sending)
                return None
            if content.get("action") != "accept":
                return self._refused(sending)
        return self._done(sending)

    def _done(self, sending: Sending) -> Json:
        if self._world.happens(self._world.plan.error):
            self._world.note(Rare.ERROR)
            return self._refused(sending)
        self.begin(sending)
        return self.answer(sending, fails=False)

    def _refused(self, sending: Sending) -> Json:
        sending.failed = sending.dead = True
        return self.answer(sending, fails=True)

    def begin(self, sending: Sending) -> None:
        """The effect, at most once for a key that this tool honours."""
        key = sending.arguments.get("ref") if SKETCHES[sending.tool].takes_key else None
        if key is not None and self._by_key.setdefault(key, sending) is not sending:
            self._world.note(Rare.KNOWN_BY_KEY)
            self._world.log("known by its key", sending)
            return
        sending.begun = self._world.moment()
        self._world.log("effect", sending)

    def answer(self, sending: Sending, *, fails: bool) -> Json:
        """What a request ends with."""
        text = {"type": "text", "text": f"{sending.tool} {sending.number}"}
        result: Json = {"content": [text], "structuredContent": {"sending": sending.number}}
        if not fails:
            return {"result": result}
        if self._world.random.random() < 0.5:
            return {"result": {**result, "isError": True}}
        return {"error": {"code": -32000, "message": f"refused {sending.number}"}}

    def thinking_s(self) -> float:
        world, random = self._world, self._world.random
        if world.happens(world.plan.hang):
            world.note(Rare.HANG)
            return random.uniform(5.0, 90.0)
        if world.happens(world.plan.slow):
            return random.uniform(0.5, 6.0)
        return random.uniform(0.001, 0.2)

    # --- questions and tasks ----------------------------------------------------------------------------------

    def _by_rounds(self, sending: Sending, members: Json, asks: int) -> Json:
        """Answer by asking, for as long as something is to be asked; all that is known of it is in the request."""
        responses, state = members.get("inputResponses") or {}, members.get("requestState")
        if state is not None:
            asks, asked = self._rounds[state]
            for question in asked:
                if question.key in responses:
                    question.received.append(responses[question.key])
            if any(responses.get(question.key, {}).get("action") != "accept" for question in asked):
                return self._refused(sending)
        if not asks:
            return self._done(sending)
        world = self._world
        sending.asks = sending.dead = True
        world.note(Rare.ASKED_BY_ROUND)
        count = world.random.choice((0, 1, 1, 2, 2, 2))
        questions = tuple(world.ledger.ask(sending, "round") for _ in range(count))
        state = f"state-{sending.number}"
        self._rounds[state] = asks - 1, questions
        result: Json = {"resultType": "input_required", "requestState": state}
        if questions:
            result["inputRequests"] = {question.key: question.request for question in questions}
        else:
            world.note(Rare.ASKS_NOTHING)
        return {"result": result}

    async def _ask_within(self, sending: Sending, arrival: Arrival) -> Json | None:
        """The answer to a question in the midst of the call; None where the connection is gone before it came."""
        world, random = self._world, self._world.random
        if arrival.on_ask is None or arrival.gone.done():
            return None
        world.note(Rare.ASKED_WITHIN)
        question = world.ledger.ask(sending, "within")
        asking = arrival.connection.ask(question, arrival.on_ask)
        patience_s = random.choice((None, None, random.uniform(0.1, 8.0)))
        await asyncio.wait((asking.answer, arrival.gone), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if arrival.gone.done():
            return None
        if asking.answer.done():
            question.received.append(asking.content)
            return asking.content
        if random.random() < 0.5:
            asking.take_back()
        else:
            world.note(Rare.ENDED_WHILE_ASKING)
        return {"action": "accept"}

    def _make_task(self, sending: Sending, asks: int) -> Json:
        work = Work(self._world, self, sending, core=not self.is_modern, asks=asks)
        self.tasks.add(work)
        if work.fate.core:
            return {"result": {"task": {"taskId": work.fate.id, "status": "working", "pollInterval": 400}}}
        return {"result": {"resultType": "task", "taskId": work.fate.id, "status": "working", "pollIntervalMs": 400}}
