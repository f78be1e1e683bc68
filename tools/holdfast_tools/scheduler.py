"""What happens by itself: recovery at the start, heartbeats, queued calls, expiries, retention."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

import anyio
import anyio.lowlevel

from holdfast_store.contract import CallFilter, Count, Expire, Purge, Recover, Renew, Retention, Store, Swept
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call
from holdfast_tools.rounds import asks_nothing
from holdfast_tools.runner import Runner
from holdfast_tools.waiters import Waiters

log = logging.getLogger("holdfast.scheduler")

LONGEST_WAIT_S = 30.0
"""The scheduler looks at the store at least this often."""

HELD_WAIT_S = 1.0
"""How long it waits when what is due cannot be moved on yet, and nothing may tell when it can."""

FIRST_LOOKED_AT = 32
MOST_LOOKED_AT = 4096
"""How far down the queue it looks, at first and at most, for calls whose downstream is there."""

PURGE_EVERY_S = 3600.0

PURGE_PAUSE_S = 0.1
"""Between the steps of a purge, so that calls are not kept waiting behind it."""

_PAGE = 500


class Scheduler:
    """Moves what time moves. Set `queued` to have it look at the queue now.

    `identities` are those of the downstreams in the config; whoever changes them says so with `reconfigured`.
    """

    def __init__(
        self,
        store: Store,
        runner: Runner,
        waiters: Waiters,
        queued: asyncio.Event,
        identities: Mapping[str, str],
        retention: Retention,
    ) -> None:
        self._store = store
        self._runner = runner
        self._waiters = waiters
        self._queued = queued
        self._identities = identities
        self._retention = retention
        self._reconfigured = asyncio.Event()
        self._reconfigured.set()

    def reconfigured(self, retention: Retention) -> None:
        """The config was exchanged: look for calls whose downstream it has no more, and keep by `retention`."""
        self._retention = retention
        self._reconfigured.set()
        self._queued.set()

    async def recover(self) -> tuple[int, int]:
        """Take over what a dead engine left running; answers how many were queued again and are in doubt.

        The caller holds the owner lock, which proves that no other engine of this store lives.
        """
        (swept,) = await self._store.commit((Recover(self._runner.lease.owner, takeover=True),))
        calls = swept.calls if isinstance(swept, Swept) else ()
        await self._count_in()
        in_doubt = sum(call.state is State.IN_DOUBT for call in calls)
        if calls:
            log.warning("recovered calls of the last engine", extra={"calls": len(calls), "in_doubt": in_doubt})
        return len(calls) - in_doubt, in_doubt

    async def _count_in(self) -> None:
        """Let those who stand in the queue already stand before all newcomers."""
        cursor: str | None = None
        while True:
            page = await self._store.list_calls(CallFilter(states=frozenset({State.QUEUED})), _PAGE, cursor)
            for call in page.items:
                self._runner.count_in(call)
            cursor = page.cursor
            if cursor is None:
                return

    async def run(self) -> None:
        """Run until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heartbeat)
            tasks.start_soon(self._watch_for_orphans)
            tasks.start_soon(self._call_again)
            tasks.start_soon(self._purge)
            await self._schedule()

    async def _schedule(self) -> None:
        while True:
            self._queued.clear()
            wait_s = LONGEST_WAIT_S
            try:
                wait_s = await self._pass()
            except StoreError as error:
                log.error("the queue cannot be read", extra={"error": str(error)})
                wait_s = 1.0
            with anyio.move_on_after(wait_s):
                await self._queued.wait()
            await anyio.lowlevel.checkpoint()

    async def _pass(self) -> float:
        """Start what can run, end what is out of time; answers how long to wait for the next look."""
        due_s = await self._store.next_due_s()
        longest_s = HELD_WAIT_S if await self._begin_queued() else LONGEST_WAIT_S
        if due_s is None:
            return longest_s
        if due_s > 0:
            return min(longest_s, due_s)
        (swept,) = await self._store.commit((Expire(),))
        if not isinstance(swept, Swept) or not swept.calls:
            return HELD_WAIT_S
        for call in swept.calls:
            self._waiters.notify(call)
        return 0.0

    async def _begin_queued(self) -> bool:
        """Begin what may be claimed, oldest first; whether some of it waits for its downstream to come back.

        What waits, or is under way already, must not hide what stands behind it in the queue; what waits for a full
        downstream is not even looked at.
        """
        limit = min(self._runner.free_slots, FIRST_LOOKED_AT)
        full: set[str] = set()
        waits = False
        while 0 < limit <= MOST_LOOKED_AT and self._runner.free_slots:
            calls, known_full = await self._store.runnable(limit, full), len(full)
            for call in calls:
                if self._runner.free_slots and not self._runner.is_under_way(call.id):
                    if self._runner.begin_queued(call):
                        continue
                    waits = True
                    if self._runner.is_full(call.downstream):
                        full.add(call.downstream)
            if len(full) > known_full:
                continue
            if len(calls) < limit:
                break
            limit *= 2
        return waits

    async def _heartbeat(self) -> None:
        """Renew every lease at a third of its span, and take over leases that others let run out."""
        lease = self._runner.lease
        while True:
            await anyio.sleep(lease.lease_s / 3)
            try:
                _, swept = await self._store.commit((Renew(lease), Recover(lease.owner, takeover=False)))
            except StoreError as error:
                log.error("leases could not be renewed", extra={"error": str(error)})
                continue
            for call in swept.calls if isinstance(swept, Swept) else ():
                self._waiters.notify(call)
                self._queued.set()

    async def _watch_for_orphans(self) -> None:
        while True:
            await self._reconfigured.wait()
            self._reconfigured.clear()
            await self._fail_orphans()

    async def _fail_orphans(self) -> None:
        """End waiting calls whose downstream is configured differently, or no more."""
        waiting = frozenset({State.WAITING_FOR_APPROVAL, State.WAITING_FOR_INPUT, State.QUEUED})
        async for call in self._each(waiting):
            if self._identities.get(call.downstream) != call.identity and not self._runner.is_under_way(call.id):
                await self._runner.fail_changed(call)

    async def _call_again(self) -> None:
        """Have calls go on of which their downstream wanted nothing but to get them again, when an engine ended."""
        async for call in self._each(frozenset({State.WAITING_FOR_INPUT})):
            if asks_nothing(call):
                self._runner.call_again(call)

    async def _each(self, states: frozenset[State]) -> AsyncIterator[Call]:
        """Every call in one of `states`."""
        cursor: str | None = None
        while True:
            try:
                page = await self._store.list_calls(CallFilter(states=states), _PAGE, cursor)
            except StoreError as error:
                log.error("waiting calls cannot be read", extra={"error": str(error)})
                await anyio.sleep(1.0)
                continue
            for call in page.items:
                yield call
            cursor = page.cursor
            if cursor is None:
                return

    async def _purge_all(self) -> None:
        while True:
            (purged,) = await self._store.commit((Purge(self._retention),))
            if not isinstance(purged, Count) or purged.rows == 0:
                return
            await anyio.sleep(PURGE_PAUSE_S)

    async def _purge(self) -> None:
        while True:
            try:
                await self._purge_all()
            except StoreError as error:
                log.error("nothing could be purged", extra={"error": str(error)})
            await anyio.sleep(PURGE_EVERY_S)
