"""The downstreams of the config in force, each in a task of its own, and those on their way out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import CatalogRecord
from holdfast_tools.downstream.news import News, OnNews
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec

log = logging.getLogger("holdfast.fleet")

Finished = Callable[[Downstream], Awaitable[None]]
"""Returns once nobody waits for anything at a downstream but the dispatches that it counts itself."""


class NotConfigured(DownstreamError, KeyError):
    """The config has no downstream of this name, or not any more: nothing was sent."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no downstream {name!r} in the config any more; nothing was sent")

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class _Run:
    """The task of one downstream. `ended` is set once its connection, and its process, are gone."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet(Mapping[str, Downstream]):
    """The downstreams by name, in the order of the config. `arrange` changes which they are.

    `fleet[name]` raises `NotConfigured`, which is a `KeyError`. What a downstream lists and tells goes to `on_catalog`
    and to `on_news(name)` for as long as the config has it.
    """

    def __init__(
        self,
        specs: Sequence[DownstreamSpec],
        on_catalog: Callable[[CatalogRecord], None],
        on_news: Callable[[str], OnNews],
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic_clock = monotonic_clock
        self._on_catalog = on_catalog
        self._on_news = on_news
        self._downstreams = {spec.name: self._downstream(spec) for spec in specs}
        self._left: dict[str, Downstream] = {}
        self._runs: dict[Downstream, _Run] = {}
        self._tasks: TaskGroup | None = None
        self._finished: Finished | None = None

    def __getitem__(self, name: str) -> Downstream:
        try:
            return self._downstreams[name]
        except KeyError:
            raise NotConfigured(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._downstreams)

    def __len__(self) -> int:
        return len(self._downstreams)

    async def run(self, finished: Finished) -> None:
        """Keep every downstream connected until cancelled. `finished` is awaited for each that leaves."""
        async with anyio.create_task_group() as tasks:
            self._tasks, self._finished = tasks, finished
            for downstream in self._downstreams.values():
                self._start(downstream)
            await anyio.sleep_forever()

    def arrange(self, specs: Sequence[DownstreamSpec], drain_s: float) -> None:
        """Have exactly the downstreams that `specs` name; those whose spec is the same are not touched.

        One that leaves, or whose spec is another now, is sent nothing more. It lives until what was sent to it is
        answered, at most `drain_s` seconds. Of two processes under one name the second starts when the first is gone.
        """
        before = self._downstreams
        self._downstreams = {spec.name: self._kept_or_new(spec) for spec in specs}
        for name, downstream in before.items():
            if self._downstreams.get(name) is not downstream:
                log.info("a downstream leaves", extra={"downstream": name})
                self._left[name] = downstream
                self._group.start_soon(self._see_off, downstream, drain_s)
        for name, downstream in self._downstreams.items():
            if before.get(name) is not downstream:
                self._start(downstream)

    def _kept_or_new(self, spec: DownstreamSpec) -> Downstream:
        before = self._downstreams.get(spec.name)
        if before is not None and before.spec == spec:
            return before
        downstream = self._downstream(spec)
        predecessor = before or self._left.get(spec.name)
        if predecessor is not None:
            downstream.succeed(predecessor)
        return downstream

    def _downstream(self, spec: DownstreamSpec) -> Downstream:
        hear_news = self._on_news(spec.name)

        def is_current() -> bool:
            return self._downstreams.get(spec.name) is downstream

        def listed(record: CatalogRecord) -> None:
            if is_current():
                self._on_catalog(record)

        def told(news: News) -> None:
            if is_current():
                hear_news(news)

        downstream = Downstream(spec, listed, told, monotonic_clock=self._monotonic_clock)
        return downstream

    @property
    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the fleet does not run")
        return self._tasks

    def _start(self, downstream: Downstream) -> None:
        self._runs[downstream] = run = _Run()
        self._group.start_soon(self._run_one, downstream, run, self._predecessor(downstream))

    def _predecessor(self, downstream: Downstream) -> _Run | None:
        """What must have ended before `downstream` may start: two processes could share what is meant for one."""
        left = self._left.get(downstream.spec.name)
        return self._runs.get(left) if left is not None and isinstance(left.spec.transport, StdioSpec) else None

    async def _run_one(self, downstream: Downstream, run: _Run, predecessor: _Run | None) -> None:
        try:
            if predecessor is not None:
                await predecessor.ended.wait()
            with run.scope:
                await downstream.run()
        finally:
            run.ended.set()
            del self._runs[downstream]

    async def _see_off(self, downstream: Downstream, drain_s: float) -> None:
        with anyio.move_on_after(drain_s) as drained:
            await downstream.quiet()
            if self._finished is not None:
                await self._finished(downstream)
        if drained.cancelled_caught:
            log.warning("a downstream is stopped with calls under way", extra={"downstream": downstream.spec.name})
        self._runs[downstream].scope.cancel()
