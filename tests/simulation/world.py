"""Everything that exists in a run: time, the disk, the servers, the engine that lives just now, and what happened."""

import asyncio
import math
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from simulation.database import Database, new_database
from simulation.engine import EngineProcess
from simulation.ledger import Ledger
from simulation.loop import VirtualLoop
from simulation.offer import DOWNSTREAMS, listing
from simulation.plan import Plan
from simulation.probes import Rare
from simulation.server import Server
from simulation.verdict import Violation
from simulation.watch import Watch

from holdfast_store.model.errors import HoldfastError
from holdfast_store.model.values import Call, CatalogRecord, Principal
from holdfast_tools.request import Reply

T = TypeVar("T")

TraceLine = tuple[int, float, str, str]
"""Moment, virtual seconds, what, and of what."""

STARTED_AT = 1_800_000_000.0
"""The wall clock at the beginning of every run."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine answered with an error."""

    error: HoldfastError


class NoAnswer:
    """The client gave up, or the engine ended before it answered."""


NO_ANSWER = NoAnswer()


class World:
    """One run's everything. Random choices of the world are drawn from `random`, in the order of events."""

    def __init__(
        self, loop: VirtualLoop, random: Random, plan: Plan, changes: tuple[str, ...], *, traced: bool
    ) -> None:
        self.loop = loop
        self.random = random
        self.plan = plan
        self.ledger = Ledger()
        self.violations: list[Violation] = []
        self.trace: list[TraceLine] = []
        self.skew_s = 0.0
        self.calm = False
        self.generations = dict.fromkeys(DOWNSTREAMS, 0)
        self.engine: EngineProcess | None = None
        self.engine_up = asyncio.Event()
        self.is_broken: asyncio.Future[None] = loop.create_future()
        self.crashes = 0
        self.came_through: Counter[str] = Counter()
        self._traced = traced
        self._moments = 0
        self._engines = 0
        self._crash_at_step = math.inf
        self.database: Database = new_database(self.moment, loop.time, changes)
        self.watch = Watch(self)
        self.servers = {name: Server(self, name) for name in DOWNSTREAMS}
        loop.before_step = self._before_step

    # --- time and chance --------------------------------------------------------------------------------------

    def moment(self) -> int:
        """A number that orders everything."""
        self._moments += 1
        return self._moments

    def clock(self) -> float:
        """The wall clock, which people may set."""
        return STARTED_AT + self.loop.time() + self.skew_s

    def happens(self, chance: float) -> bool:
        return not self.calm and chance > 0 and self.random.random() < chance

    def note(self, event: Rare) -> None:
        """Count what the run comes through."""
        self.came_through[event.value] += 1

    def log(self, what: str, *details: object) -> None:
        if self._traced:
            self.trace.append((self._moments, self.loop.time(), what, " ".join(map(str, details))))

    def broken(self, rule: str, message: str, error: BaseException | None = None) -> None:
        """Note a violation, and end the run."""
        if error is not None:
            message = message + "\n" + "".join(traceback.format_exception(error))
        self.violations.append(Violation(rule, message))
        if not self.is_broken.done():
            self.is_broken.set_result(None)

    # --- engines ----------------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Keep an engine alive: whatever ends one, another starts on the same disk."""
        try:
            await self._keep_alive()
        except Exception as error:
            self.broken("engine-falls-over", f"no engine can be made: {error!r}", error)

    async def _keep_alive(self) -> None:
        while True:
            self._engines += 1
            number = self._engines
            stern = self.happens(self.plan.changes)
            if stern:
                self.note(Rare.OTHER_POLICY)
            if number > 1 and self.happens(self.plan.changes / 4):
                self.note(Rare.OTHER_IDENTITY)
                self.generations[self.random.choice(DOWNSTREAMS)] += 1
            self.engine = process = EngineProcess(self, number, stern=stern)
            self.ledger.owners[process.owner] = number
            self.log("engine starts", process.owner, "stern" if stern else "plain")
            self.loop.spawn(number, process.main())
            how = await process.ended
            self.ledger.ended[number] = self.moment()
            self.engine_up.clear()
            self.log("engine ends", process.owner, how)
            await asyncio.sleep(self.random.choice((0.01, 0.2, self.random.uniform(0.0, 5.0))))

    def crash(self) -> None:
        """Kill the engine that lives: nothing of it runs any more, not even what is at it just now."""
        process = self.engine
        if process is None or process.ended.done() or self.calm:
            return
        self.crashes += 1
        self.note(Rare.CRASH)
        if any(connection.asks for connection in process.connections.values()):
            self.note(Rare.CRASH_WHILE_ASKED)
        self.loop.kill(process.number)
        for server in self.servers.values():
            if self.random.random() < 0.5:
                server.die()
            else:
                server.cut("the engine died")
        process.crashed()

    def _before_step(self) -> None:
        if self.loop.steps >= self._crash_at_step:
            self._crash_at_step = math.inf
            self.crash()

    def crash_soon(self) -> None:
        """Crash within the next hundred steps, wherever that is."""
        self._crash_at_step = self.loop.steps + self.random.randint(1, 100)

    async def _die_here(self) -> None:
        self.crash()
        await self.loop.create_future()

    async def serving(self) -> EngineProcess:
        """The engine, once one is up."""
        while self.engine is None or not self.engine.is_up:
            self.engine_up.clear()
            await self.engine_up.wait()
        return self.engine

    async def ask(
        self,
        work: Callable[[EngineProcess], Awaitable[T]],
        patience_s: float,
        *,
        silent: bool = False,
        request: int | None = None,
        principal: Principal | None = None,
    ) -> T | Refused | NoAnswer:
        """Have the engine do `work` for `principal`, who waits `patience_s`, then leaves, `silent` or not."""
        give_up = self.loop.time() + patience_s
        answer: asyncio.Future[T | Refused | None] = self.loop.create_future()
        try:
            async with asyncio.timeout_at(give_up):
                process = await self.serving()
        except TimeoutError:
            return NO_ANSWER
        listening = True

        async def serve() -> None:
            reply: T | Refused
            try:
                reply = await work(process)
            except HoldfastError as error:
                reply = Refused(error)
            except Exception as error:
                self.broken("unexpected-error", repr(error), error)
                return
            if isinstance(reply, Reply) and listening:
                self.watch.told(request, reply.call, principal)
                process.gateway.delivered(reply)
            elif isinstance(reply, Call) and listening:
                self.watch.told(request, reply, principal)
                process.gateway.delivered(Reply(reply))
            if not answer.done():
                answer.set_result(reply)

        task = process.handle(serve, answer)
        done, _ = await asyncio.wait((answer,), timeout=max(0.0, give_up - self.loop.time()))
        if done:
            result = answer.result()
            return NO_ANSWER if result is None else result
        if not silent and task is not None:
            listening = False
            task.cancel()
            self.note(Rare.CLIENT_LEAVES)
        elif silent:
            self.note(Rare.CLIENT_FALLS_SILENT)
        return NO_ANSWER

    # --- the disk's habits ------------------------------------------------------------------------------------

    def disk_pause_s(self) -> float:
        if self.happens(self.plan.slow_disk):
            self.note(Rare.SLOW_DISK)
            return self.random.uniform(0.05, 3.0)
        return self.random.uniform(0.0, 0.004)

    def disk_fails_in(self) -> int | None:
        if not self.happens(self.plan.disk_fault):
            return None
        self.note(Rare.DISK_FAULT)
        return self.random.randint(1, 12)

    async def committed(self) -> None:
        if self.happens(self.plan.crash_after_commit):
            self.log("crash after a commit")
            self.note(Rare.CRASH_AFTER_COMMIT)
            await self._die_here()

    # --- the downstreams' -------------------------------------------------------------------------------------

    def connecting_s(self) -> float:
        return self.random.choice((0.0, 0.05, self.random.uniform(0.0, 2.0)))

    def writing_s(self) -> float:
        return self.random.choice((0.0, 0.0005, self.random.uniform(0.0, 0.3)))

    def listing(self, server: Server) -> CatalogRecord:
        if self.happens(self.plan.changes / 2):
            server.edition += 1
            self.note(Rare.OTHER_DEFINITION)
        return listing(server.name, self.generations[server.name], server.edition)

    async def written(self) -> None:
        """A request has just been written: another good moment for a crash."""
        if self.happens(self.plan.crash_after_send):
            self.log("crash after a request was written")
            self.note(Rare.CRASH_AFTER_SEND)
            await self._die_here()
