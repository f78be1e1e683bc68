"""One engine process: the product's own parts, put together on the simulated disk and downstreams."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anyio
from simulation.database import Disk
from simulation.downstream import Connection
from simulation.offer import DOWNSTREAMS, PATTERNS, PRINCIPALS, policy, spec

from holdfast_store.contract import Retention, SaveCatalog
from holdfast_store.model.errors import StoreError
from holdfast_store.model.values import CatalogRecord, Json
from holdfast_store.sqlite.store import SqliteStore
from holdfast_tools.catalog import Catalog, Tool, digest_of
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.gateway import Gateway, GatewaySettings
from holdfast_tools.operations import Operations
from holdfast_tools.rounds import SEAL_KEY_BYTES, Seal
from holdfast_tools.runner import Runner
from holdfast_tools.scheduler import Scheduler
from holdfast_tools.settings import RunnerSettings
from holdfast_tools.waiters import Waiters

if TYPE_CHECKING:
    from simulation.world import World

LEASE_S = 30.0
SEAL_KEY = b"\0" * SEAL_KEY_BYTES


class _CompiledOnce(Catalog):
    """Compiling a tool is pure and takes longest of all that an engine does at its start: once per policy is enough."""

    _by_policy: ClassVar[dict[tuple[int, str, str, str], Tool]] = {}

    def _compile(self, record: CatalogRecord, definition: Json) -> Tool:
        known = (id(self._policy), record.downstream, record.identity, digest_of(definition))
        if known not in self._by_policy:
            self._by_policy[known] = super()._compile(record, definition)
        return self._by_policy[known]


class EngineProcess:
    """Ends by a crash (`World.crash`), by `stop`, or because its store fails at the start."""

    def __init__(self, world: "World", number: int, *, stern: bool) -> None:
        self.number = number
        self.stern = stern
        self.owner = f"engine-{number}"
        self.is_up = False
        self.waiting: dict[asyncio.Future[Any], None] = {}
        self.handlers: dict[asyncio.Task[None], None] = {}
        self.ended: asyncio.Future[str] = world.loop.create_future()
        self._world = world
        self._stopping = asyncio.Event()
        self._queued = asyncio.Event()
        plan = world.plan
        disk = Disk(world.database, world, world.random)
        self.store = SqliteStore(
            path=Path("simulation"),
            writer=disk,
            lookups=disk,
            lists=disk,
            clock=world.clock,
            retention=Retention(),
        )
        rules = policy(stern=stern)
        self.catalog = _CompiledOnce(prefix=True, patterns=PATTERNS, trust={}, policy=rules)
        waiters = Waiters()
        self.connections = {
            name: Connection(world, number, spec(name, world.generations[name]), self._listed) for name in DOWNSTREAMS
        }
        downstreams = cast("dict[str, Downstream]", self.connections)
        self.runner = Runner(
            self.store,
            self.catalog,
            rules,
            downstreams,
            PRINCIPALS,
            waiters,
            self._queued,
            self.owner,
            RunnerSettings(
                lease_s=LEASE_S,
                max_under_way=plan.slots,
                first_backoff_s=plan.backoff_s,
                answer_within_s=plan.answer_within_s,
            ),
        )
        self.gateway = Gateway(
            self.store,
            self.catalog,
            rules,
            downstreams,
            self.runner,
            waiters,
            Seal(SEAL_KEY),
            GatewaySettings(inline_wait_s=plan.inline_wait_s),
        )
        self.operations = Operations(
            self.store, self.catalog, rules, downstreams, PRINCIPALS, self.runner, self.gateway, waiters
        )
        identities = {name: each.spec.identity for name, each in self.connections.items()}
        self.scheduler = Scheduler(self.store, self.runner, waiters, self._queued, identities, Retention())

    def _listed(self, record: CatalogRecord) -> None:
        self.catalog.update(record)
        self.store.commit_soon((SaveCatalog(record),))
        self._queued.set()

    async def main(self) -> None:
        """From takeover to the end of a stop."""
        try:
            await self._restore()
            await self.scheduler.recover()
        except StoreError:
            self._end("could not start")
            return
        except Exception as error:
            self._world.broken("engine-falls-over", f"{self.owner} at its start: {error!r}", error)
            self._end("fell over")
            return
        try:
            await self._serve()
        except Exception as error:
            self._world.broken("engine-falls-over", f"{self.owner}: {error!r}", error)
        self._end("stopped")

    async def _restore(self) -> None:
        identities = {name: each.spec.identity for name, each in self.connections.items()}
        for record in await self.store.catalogs():
            if identities.get(record.downstream) == record.identity:
                self.catalog.update(record)

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            self.runner.attach(tasks)
            for connection in self.connections.values():
                tasks.start_soon(connection.run)
            tasks.start_soon(self.scheduler.run)
            self.is_up = True
            self._world.engine_up.set()
            await self._stopping.wait()
            await self.runner.drain(self._world.random.choice((0.0, 0.5, 5.0)))
            await self._dismiss()
            tasks.cancel_scope.cancel()
        await self.store.close()

    async def _dismiss(self) -> None:
        """Say goodbye to who is still connected."""
        self.is_up = False
        for handler in self.handlers:
            handler.cancel()
        if self.handlers:
            await asyncio.wait(self.handlers)

    def stop(self) -> None:
        """Drain, then end."""
        self._stopping.set()

    def crashed(self) -> None:
        """It is dead: tell those who wait for its answers."""
        self._end("crashed")

    def _end(self, how: str) -> None:
        self.is_up = False
        for answer in tuple(self.waiting):
            if not answer.done():
                answer.set_result(None)
        if not self.ended.done():
            self.ended.set_result(how)

    def handle(self, work: Callable[[], Awaitable[None]], answer: asyncio.Future[Any]) -> asyncio.Task[None] | None:
        """Serve one request in this process; `answer` is None if the process ends first, or lets nobody in."""

        async def serve() -> None:
            await work()

        if not self.is_up:
            answer.set_result(None)
            return None
        self.waiting[answer] = None
        answer.add_done_callback(lambda _: self.waiting.pop(answer, None))
        task: asyncio.Task[None] = self._world.loop.spawn(self.number, serve())
        self.handlers[task] = None
        task.add_done_callback(lambda _: self.handlers.pop(task, None))
        return task
