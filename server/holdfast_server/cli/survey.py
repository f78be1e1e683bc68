"""Connecting to every server of a config once, to see what it offers: nothing is called, nothing is stored."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import anyio

from holdfast_policy.decide import PolicySet
from holdfast_server.config import Config
from holdfast_tools.catalog import Catalog
from holdfast_tools.downstream.owner import Downstream

MARGIN_S = 5.0
"""How much longer than its own `connect_timeout` a server may take to be given up in good order."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One server. `reason` says why it was not reached or not tried; `stderr_tail` is what it said last."""

    name: str
    state: Literal["connected", "failed", "not tried"]
    took_s: float = 0.0
    reason: str = ""
    server_name: str | None = None
    protocol_version: str | None = None
    stderr_tail: tuple[str, ...] = ()
    tools: int = 0


def survey(
    config: Config, not_tried: Mapping[str, str], progress: Callable[[Surveyed], None]
) -> tuple[Catalog, tuple[Surveyed, ...]]:
    """Connect to all servers at once but those in `not_tried` (name to reason), each within its own deadline.

    `progress` hears of each as soon as it is known.
    """
    logging.getLogger("holdfast").addHandler(logging.NullHandler())  # what it warns of is in the answer
    policy = PolicySet(config.preset, config.rules, config.approval_defaults)
    catalog = Catalog(prefix=config.prefix, patterns=config.patterns, trust=config.trust, policy=policy)
    found: dict[str, Surveyed] = {}

    def known(surveyed: Surveyed) -> None:
        found[surveyed.name] = surveyed
        progress(surveyed)

    for spec in config.downstreams:
        if spec.name in not_tried:
            known(Surveyed(spec.name, "not tried", reason=not_tried[spec.name]))
    asyncio.run(_connect_all(config, frozenset(not_tried), catalog, known))
    return catalog, tuple(found[spec.name] for spec in config.downstreams)


async def _connect_all(
    config: Config, not_tried: frozenset[str], catalog: Catalog, known: Callable[[Surveyed], None]
) -> None:
    async with anyio.create_task_group() as watchers:
        for spec in config.downstreams:
            if spec.name not in not_tried:
                downstream = Downstream(spec, catalog.update)
                watchers.start_soon(_connect, downstream, catalog, known)


async def _connect(downstream: Downstream, catalog: Catalog, known: Callable[[Surveyed], None]) -> None:
    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(downstream.run)
        await downstream.settled(downstream.spec.connect_timeout_s + MARGIN_S)
        status = downstream.status
        tasks.cancel_scope.cancel()
    name = downstream.spec.name
    known(
        Surveyed(
            name,
            "connected" if status.state == "connected" else "failed",
            time.monotonic() - began,
            "" if status.state == "connected" else status.reason or "it did not answer in time",
            status.server_name,
            status.protocol_version,
            status.stderr_tail,
            sum(tool.downstream == name for tool in catalog.tools()),
        )
    )
