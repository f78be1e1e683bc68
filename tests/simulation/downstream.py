"""Simulated downstreams: a server that outlives engines, and an engine's connection to it.

`Connection` offers what the product's `Downstream` does; what it writes arrives at a `Server`, whose effects go on
whatever becomes of the engine.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from simulation.ledger import Sending
from simulation.loop import WORLD
from simulation.offer import SKETCHES

from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent
from holdfast_tools.downstream.breaker import BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms
from holdfast_tools.downstream.gate import Gate, GateTerms
from holdfast_tools.downstream.spec import DownstreamSpec
from holdfast_tools.downstream.status import DownstreamStatus

if TYPE_CHECKING:
    from simulation.world import World


class Server:
    """The process at the other end. Its requests live as long as it does, answered or not."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.edition = 0
        self._world = world
        self._life = 0
        self._connection: Connection | None = None
        self._by_key: dict[str, Sending] = {}

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
        self._world.log("dies", self.name)
        self.cut("the server died")

    def receive(self, sending: Sending, dispatch: "Dispatch") -> None:
        """A request was written; whether it arrives is another question."""
        self._world.loop.spawn(WORLD, self._serve(sending, dispatch, self._life))

    async def _serve(self, sending: Sending, dispatch: "Dispatch", life: int) -> None:
        world, random = self._world, self._world.random
        await asyncio.sleep(random.uniform(0.0001, 0.01))
        if life != self._life or world.happens(world.plan.vanish):
            sending.dead = True
            world.log("arrives nowhere", sending)
            await asyncio.sleep(random.uniform(0.0, 60.0))
            if life == self._life:
                self.die()
            return
        await asyncio.sleep(self._thinking_s())
        fails = world.happens(world.plan.error)
        if life != self._life or fails:
            sending.dead = True
        else:
            self._begin(sending)
        await asyncio.sleep(random.choice((0.0, 0.001, random.uniform(0.0, 1.0))))
        if life != self._life:
            return
        sending.failed = fails
        sending.answer = _answer(sending, fails, random.random())
        await asyncio.sleep(random.uniform(0.0001, 0.01))
        if life == self._life and dispatch.connection is self._connection:
            dispatch.answered(sending)

    def _begin(self, sending: Sending) -> None:
        """The effect, at most once for a key that this tool honours."""
        key = sending.arguments.get("ref") if SKETCHES[sending.tool].takes_key else None
        if key is not None and self._by_key.setdefault(key, sending) is not sending:
            self._world.log("known by its key", sending)
            return
        sending.begun = self._world.moment()
        self._world.log("effect", sending)

    def _thinking_s(self) -> float:
        world, random = self._world, self._world.random
        if world.happens(world.plan.hang):
            return random.uniform(5.0, 90.0)
        if world.happens(world.plan.slow):
            return random.uniform(0.5, 6.0)
        return random.uniform(0.001, 0.2)


def _answer(sending: Sending, fails: bool, drawn: float) -> Json:
    text = {"type": "text", "text": f"{sending.tool} {sending.number}"}
    result: Json = {"content": [text], "structuredContent": {"sending": sending.number}}
    if not fails:
        return {"result": result}
    if drawn < 0.5:
        return {"result": {**result, "isError": True}}
    return {"error": {"code": -32000, "message": f"refused {sending.number}"}}


class Dispatch:
    """One attempt under way, as the product's own."""

    def __init__(self, connection: "Connection") -> None:
        self.outcome: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self.sent = False
        self.connection = connection
        self.sending: Sending | None = None

    def lose(self) -> None:
        """Nothing here is shared, so nothing is made free."""

    def abandon(self) -> None:
        self.conclude_unanswered("nobody waits for it any more")

    def conclude_unanswered(self, reason: str) -> None:
        if self.outcome.done():
            return
        if self.sending is not None:
            self.sending.lost = self.connection.world.moment()
        self.outcome.set_result(Lost(reason) if self.sent else NotSent(reason))

    def answered(self, sending: Sending) -> None:
        """The answer arrives at the engine, where that still lives."""
        world = self.connection.world
        if world.loop.is_dead(self.connection.process) or self.outcome.done():
            return
        sending.handed = world.moment()
        world.log("answer", sending)
        self.outcome.set_result(Answered(**(sending.answer or {})))


class Connection:
    """An engine's end of the connection to one server. Cut it with `over`; it is rebuilt by itself."""

    def __init__(
        self, world: "World", process: int, spec: DownstreamSpec, on_catalog: Callable[[CatalogRecord], None]
    ) -> None:
        self.world = world
        self.process = process
        self.spec = spec
        self.status = DownstreamStatus(state="starting", since=0.0)
        breaker, budget = BreakerTerms(world.plan.losses_to_open), BudgetTerms(capacity=world.plan.retries)
        terms = GateTerms(world.plan.places, world.plan.queue, breaker, budget)
        self.gate = Gate(spec.name, terms, world.loop.time, world.clock)
        self._server = world.servers[spec.name]
        self._on_catalog = on_catalog
        self._usable = False
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._cut = asyncio.Event()
        self._under_way: dict[Dispatch, None] = {}

    async def run(self) -> None:
        """Connect, serve and rebuild until cancelled."""
        try:
            while True:
                await asyncio.sleep(self.world.connecting_s())
                if self.world.happens(self.world.plan.cut_rate):
                    self._move("failed" if self.status.state in ("starting", "failed") else "backoff", "no answer")
                    self._settled.set()
                    continue
                await self._serve()
        finally:
            self._end("Holdfast stopped")
            self._move("stopped", None)

    async def _serve(self) -> None:
        self._cut = asyncio.Event()
        self._server.connect(self)
        self._on_catalog(self.world.listing(self._server))
        self._usable = True
        self._move("connected", None)
        self._settled.set()
        await self._cut.wait()

    def over(self, why: str) -> None:
        if not self.world.loop.is_dead(self.process):
            self._end(why)
            self._move("backoff", why)
            self._cut.set()

    async def settled(self, timeout_s: float) -> bool:
        with anyio.move_on_after(timeout_s):
            await self._settled.wait()
        return self._settled.is_set()

    async def connected(self, timeout_s: float) -> bool:
        with anyio.move_on_after(timeout_s):
            while not self._usable and self.status.state in ("starting", "connected", "backoff"):
                await self._moved.wait()
        return self._usable

    makes_core_tasks = False

    def asks_within(self, client: Any) -> bool:
        """These servers never ask while a call is under way."""
        return False

    def dispatch(self, name: str, arguments: Json, *, meta: Json, read_only: bool, **_: Any) -> Dispatch:
        self.world.watch.about_to_send(self, name, meta)
        dispatch = Dispatch(self)
        if not self._usable:
            dispatch.conclude_unanswered(f"{self.spec.name} is not connected")
            return dispatch
        self._under_way[dispatch] = None
        self.world.loop.spawn(self.process, self._write(dispatch, name, dict(arguments), meta))
        return dispatch

    async def _write(self, dispatch: Dispatch, name: str, arguments: Json, meta: Json) -> None:
        try:
            await asyncio.sleep(self.world.writing_s())
            if not dispatch.outcome.done():
                dispatch.sent = True
                dispatch.sending = self.world.watch.sent(self, name, arguments, meta)
                self._server.receive(dispatch.sending, dispatch)
                await self.world.written()
                await asyncio.wait((dispatch.outcome,))
        finally:
            self._under_way.pop(dispatch, None)

    def _end(self, why: str) -> None:
        self._usable = False
        for dispatch in tuple(self._under_way):
            dispatch.conclude_unanswered(why)

    def _move(self, state: Any, reason: str | None) -> None:
        self.status = replace(self.status, state=state, reason=reason)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
