"""An engine's insides in this process, on a real store and a real downstream, with a clock that tests move."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from support.workspace import Workspace

from holdfast_server.config import load
from holdfast_server.engine.assembly import Assembly, assemble
from holdfast_server.engine.people import OPERATOR
from holdfast_server.mcp.admin import EngineControl
from holdfast_store.contract import CallFilter, Store, Write, WriteResult
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, Call, Principal
from holdfast_store.open import open_store
from holdfast_tools.request import CallRequest, Reply

DEADLINE_S = 20.0


class MovableClock:
    """Wall-clock time plus what a test added."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s

    def pass_by(self, seconds: float) -> None:
        self.ahead_s += seconds


class LateAnswers:
    """A store whose commits are durable at once, but whose answers to writes of one kind come only when let go."""

    def __init__(self, store: Store, kind: type) -> None:
        self.reached = asyncio.Event()
        self._let_go = asyncio.Event()
        self._store, self._kind, self._commit = store, kind, store.commit

    def let_go(self) -> None:
        self._let_go.set()

    async def commit(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        results = await self._commit(writes)
        if any(isinstance(write, self._kind) for write in writes):
            self.reached.set()
            await self._let_go.wait()
        return results


class Inside:
    """What a test drives: calls in, people's verdicts, and looks at the store."""

    def __init__(self, assembly: Assembly, clock: MovableClock, workspace: Workspace) -> None:
        self.assembly = assembly
        self.clock = clock
        self.workspace = workspace
        self.store = assembly.store
        self.operations = assembly.operations

    async def call(self, tool: str, arguments: Mapping[str, Any], **more: Any) -> Reply:
        """Make a call as `local`, and give the reply to a client that is there to take it."""
        reply = await self.undelivered(tool, arguments, **more)
        self.assembly.gateway.delivered(reply)
        return reply

    async def undelivered(self, tool: str, arguments: Mapping[str, Any], **more: Any) -> Reply:
        """Make a call whose reply nobody takes."""
        request = CallRequest(**{"principal": LOCAL, "tool": tool, "arguments": dict(arguments), **more})
        with anyio.fail_after(DEADLINE_S):
            return await self.assembly.gateway.call(request)

    async def until(self, call_id: str, *states: State) -> Call:
        """The call, once it is in one of `states`."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                call = await self.store.get_call(call_id)
                if call is not None and call.state in states:
                    return call
                await anyio.sleep(0.01)

    async def events(self, call_id: str) -> list[str]:
        """The call's timeline, event by event."""
        return [str(entry.event) for entry in await self.store.journal(call_id)]

    async def approval_of(self, call: Call) -> str:
        stored = await self.store.get_call(call.id)
        assert stored is not None
        assert stored.approval_id is not None
        return stored.approval_id

    def downstream_pid(self) -> int:
        pid = self.assembly.downstreams["ledger"].status.pid
        assert pid is not None
        return pid

    async def only_call(self) -> Call:
        (call,) = (await self.store.list_calls(CallFilter(), 10)).items
        return call

    @contextmanager
    def late_answers(self, kind: type) -> Iterator[LateAnswers]:
        """Within the block, whoever commits a write of this kind hears of it only when the test says so."""
        late = LateAnswers(self.store, kind)
        self.store.commit = late.commit  # type: ignore[method-assign]
        try:
            yield late
        finally:
            late.let_go()
            del self.store.commit  # type: ignore[method-assign]

    @contextmanager
    def taking_nothing(self) -> Iterator[None]:
        """Within the block, the ledger downstream's stdin has no room."""
        connection = self.assembly.downstreams["ledger"]._supervisor.connection
        assert connection is not None
        connection.link._child.pause_writing()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            connection.link._child.resume_writing()  # type: ignore[attr-defined]

    @contextmanager
    def without_downstream(self) -> Iterator[None]:
        """Within the block, the ledger downstream is as if it could not be connected."""
        supervisor = self.assembly.downstreams["ledger"]._supervisor
        connection, supervisor.connection = supervisor.connection, None
        supervisor._move("failed", reason="made up")
        try:
            yield
        finally:
            supervisor.connection = connection
            supervisor._move("connected")

    async def restart_downstream(self) -> None:
        """Return when the ledger downstream's connection is gone, and is being made again."""
        downstream = self.assembly.downstreams["ledger"]
        connection = downstream._supervisor.connection
        assert connection is not None
        connection.link.fail("made up")
        with anyio.fail_after(DEADLINE_S):
            while downstream.status.state == "connected":
                await anyio.sleep(0.01)

    async def until_begun(self, tool: str, effects: int = 1) -> None:
        """Wait until the downstream has begun that many effects of `tool`."""
        with anyio.fail_after(DEADLINE_S):
            while len(self.workspace.ledger.effects(tool)) < effects:
                await anyio.sleep(0.01)


class _NoControl(EngineControl):
    """Nobody stops these engines but their test."""


Opened = Callable[..., AbstractAsyncContextManager[Inside]]

APPROVER = OPERATOR


@pytest.fixture
def approver() -> Principal:
    return APPROVER


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def opened(workspace: Workspace, clock: MovableClock) -> Opened:
    """`async with opened(**settings) as inside`: an engine's insides on this workspace's store."""

    @asynccontextmanager
    async def open_inside(**settings: Any) -> AsyncIterator[Inside]:
        downstreams = settings.pop("mcpServers", {"ledger": workspace.ledger_downstream()})
        path = workspace.write_config({"mcpServers": downstreams, **settings})
        config = load(path, workspace.environment)
        store = await open_store(config.store_url, retention=config.retention, clock=clock)
        try:
            assembly = await assemble(config, store, "", _NoControl(), clock)
            await assembly.scheduler.recover()
            async with anyio.create_task_group() as tasks:
                assembly.runner.attach(tasks)
                for downstream in assembly.downstreams.values():
                    tasks.start_soon(downstream.run)
                tasks.start_soon(assembly.scheduler.run)
                for downstream in assembly.downstreams.values():
                    await downstream.settled(DEADLINE_S)
                yield Inside(assembly, clock, workspace)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    return open_inside


@pytest.fixture
async def inside(opened: Opened) -> AsyncIterator[Inside]:
    """The plainest engine: one ledger downstream, every setting at its default."""
    async with opened() as plain:
        yield plain
