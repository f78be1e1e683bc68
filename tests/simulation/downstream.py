"""An engine's end of the connection to one simulated server. It offers what the product's `Downstream` does."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.exceptions import MCPError
from simulation.asking import Asking
from simulation.gates import WatchedGate
from simulation.ledger import Question, Sending
from simulation.offer import SKETCHES
from simulation.probes import Rare
from simulation.server import Arrival

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Answered, Attempt
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.interactive import asks_back
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.downstream.spec import DownstreamSpec
from holdfast_tools.downstream.status import DownstreamStatus

if TYPE_CHECKING:
    from simulation.world import World

_CONNECT_WAIT_S = 5.0


class SentDispatch(Dispatch):
    """The product's own, which tells the ledger what came of it. `decided` and `began_at`: when it was made."""

    def __init__(self, connection: "Connection", tool: str) -> None:
        super().__init__(connection.spec.name, lambda: None)
        self.connection = connection
        self.timeout_s = SKETCHES[tool].timeout_s
        self.sending: Sending | None = None
        self.decided = connection.world.moment()
        self.began_at = connection.world.loop.time()

    def conclude(self, attempt: Attempt) -> None:
        if not self.outcome.done() and self.sending is not None and not isinstance(attempt, Answered):
            self.sending.lost = self.connection.world.moment()
        super().conclude(attempt)

    def answered(self, sending: Sending, answer: Answered) -> None:
        """The answer arrives at the engine, where that still lives."""
        world = self.connection.world
        if world.loop.is_dead(self.connection.process) or self.outcome.done():
            return
        if self.lost:
            world.note(Rare.LATE_ANSWER)
        sending.handed = world.moment()
        world.log("answer", sending)
        self.conclude(answer)


class Connection:
    """Cut it with `over`; it is rebuilt by itself. `gone` is done once it is cut, until it is rebuilt."""

    def __init__(
        self, world: "World", process: int, spec: DownstreamSpec, on_catalog: Callable[[CatalogRecord], None]
    ) -> None:
        self.world = world
        self.process = process
        self.spec = spec
        self.status = DownstreamStatus(state="starting", since=0.0)
        self.gate = WatchedGate(world, process, spec.name)
        self.gone: asyncio.Future[None] = world.loop.create_future()
        self._server = world.servers[spec.name]
        self._on_catalog = on_catalog
        self._usable = False
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._cut = asyncio.Event()
        self._under_way: dict[SentDispatch, None] = {}
        self._asking: list[Asking] = []

    async def run(self) -> None:
        """Connect, serve and rebuild until cancelled."""
        try:
            while True:
                await asyncio.sleep(self.world.connecting_s())
                if self.world.happens(self.world.plan.cut_rate):
                    self.world.note(Rare.NO_CONNECTION)
                    self._move("failed" if self.status.state in ("starting", "failed") else "backoff", "no answer")
                    self._settled.set()
                    continue
                await self._serve()
        finally:
            self._end("Holdfast stopped")
            self._move("stopped", None)

    async def _serve(self) -> None:
        self._cut = asyncio.Event()
        self.gone = self.world.loop.create_future()
        self._server.connect(self)
        self._on_catalog(self.world.listing(self._server))
        self._usable = True
        self._move("connected", None)
        self._settled.set()
        await self._cut.wait()

    def over(self, why: str) -> None:
        """The connection is cut."""
        if not self.gone.done():
            self.gone.set_result(None)
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

    @property
    def makes_core_tasks(self) -> bool:
        return self._usable and not self._server.is_modern

    def asks_within(self, client: ClientProfile) -> bool:
        return self._usable and not self._server.is_modern and bool(asks_back(client))

    def list_for(self, client: ClientProfile) -> asyncio.Event:
        """What is listed is the same for all clients."""
        listed = asyncio.Event()
        listed.set()
        return listed

    def forget_task(self, task_id: str) -> None:
        """Nobody asks for this task any more; there is no session to let go of."""

    # --- calls ------------------------------------------------------------------------------------------------

    def dispatch(
        self,
        name: str,
        arguments: Json,
        *,
        meta: Json,
        client: ClientProfile,
        members: Json,
        on_ask: OnAsk | None = None,
        read_only: bool,
        **_: Any,
    ) -> SentDispatch:
        dispatch = SentDispatch(self, name)
        if not self._usable:
            dispatch.conclude_unanswered("it is not connected")
            return dispatch
        self.world.watch.about_to_send(self, name, meta, tuple(self._under_way))
        self._under_way[dispatch] = None
        arrival = Arrival(dispatch, self, dict(members), client, on_ask, self.gone)
        self.world.loop.spawn(self.process, self._write(arrival, name, dict(arguments), meta))
        return dispatch

    async def _write(self, arrival: Arrival, name: str, arguments: Json, meta: Json) -> None:
        dispatch = arrival.dispatch
        try:
            await asyncio.sleep(self.world.writing_s())
            if not dispatch.outcome.done() and dispatch.exchange.begin():
                dispatch.sending = self.world.watch.sent(self, dispatch, name, arguments, meta, arrival.members)
                self._server.receive(dispatch.sending, arrival)
                await self.world.written()
                await asyncio.wait((dispatch.outcome,))
        finally:
            self._under_way.pop(dispatch, None)

    def ask(self, question: Question, on_ask: OnAsk) -> Asking:
        """The server asks the engine something."""
        asking = Asking(self.world, self.process, question, on_ask)
        self._asking.append(asking)
        return asking

    @property
    def asks(self) -> bool:
        """Whether a question is open here."""
        return any(not asking.answer.done() for asking in self._asking)

    # --- requests about tasks ---------------------------------------------------------------------------------

    async def request(self, method: str, params: Json, *, on_ask: OnAsk | None = None, **_: Any) -> Json:
        """One request about a task. Raises MCPError with the server's own error, DownstreamError without an answer."""
        world, random = self.world, self.world.random
        if not await self.connected(_CONNECT_WAIT_S):
            raise DownstreamError(f"{self.spec.name} is not connected")
        gone = self.gone
        await asyncio.sleep(random.uniform(0.0001, 0.05))
        arrives = not gone.done() and not world.happens(world.plan.vanish)
        answer: Json | MCPError = {}
        try:
            answer = await self._server.tasks.answer(method, params, self, on_ask, gone) if arrives else {}
        except MCPError as error:
            answer = error
        await asyncio.sleep(random.uniform(0.0001, 0.05))
        if not arrives or gone.done() or world.happens(world.plan.vanish / 2):
            world.note(Rare.POLL_LOST)
            raise DownstreamError(f"{self.spec.name} did not answer {method}")
        self._server.tasks.handed(method, params)
        if isinstance(answer, MCPError):
            raise answer
        return answer

    # --- ends -------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        self._usable = False
        for asking in self._asking:
            asking.cut_off()
        self._asking.clear()
        for dispatch in tuple(self._under_way):
            dispatch.conclude_unanswered(why)

    def _move(self, state: Any, reason: str | None) -> None:
        self.status = replace(self.status, state=state, reason=reason)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
