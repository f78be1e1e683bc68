"""Everything one engine is made of, put together from a config. Data flows one way: see `docs/architecture.md`."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.lowlevel.server import Server

from holdfast_server.config import Config
from holdfast_server.engine.fleet import Fleet
from holdfast_server.engine.live_policy import LivePolicy
from holdfast_server.engine.people import People, approving_roles
from holdfast_server.engine.reload import (
    ConfigInForce,
    LiveParts,
    gateway_settings,
    identities_of,
    policy_of,
    runner_settings,
)
from holdfast_server.mcp.admin import ADMIN_INSTRUCTIONS, AdminToolset, EngineControl
from holdfast_server.mcp.agent import AgentToolset
from holdfast_server.mcp.endpoint import build_server
from holdfast_server.mcp.handles import Handles
from holdfast_server.mcp.instructions import INSTRUCTIONS
from holdfast_server.mcp.listen import Subscriptions
from holdfast_server.mcp.listen_watches import Watches
from holdfast_server.mcp.relay import Relay
from holdfast_server.mcp.results import Results, StoredResults
from holdfast_server.mcp.tasks.access import TaskAccess
from holdfast_server.mcp.tasks.core import CoreTasks
from holdfast_server.mcp.tasks.extension import TasksExtension
from holdfast_server.mcp.tasks.methods import TaskMethods
from holdfast_server.mcp.tasks.news import TaskNews
from holdfast_server.mcp.tasks.offer import Offers
from holdfast_store.contract import KeepSecret, Kept, SaveCatalog, Store
from holdfast_store.model.values import CatalogRecord, Principal, new_id
from holdfast_tools.catalog import Catalog
from holdfast_tools.downstream.news import Elicited, Kind, ListedFor, News, Offered, OnNews, Said, Updated
from holdfast_tools.gateway import Gateway
from holdfast_tools.offerings import Offerings
from holdfast_tools.operations import Operations
from holdfast_tools.rounds import SEAL_KEY_BYTES, Seal
from holdfast_tools.runner import Runner
from holdfast_tools.scheduler import Scheduler
from holdfast_tools.settling import FIRST_CATALOG_S
from holdfast_tools.waiters import Waiters


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of an engine that listeners and the run loop need."""

    in_force: ConfigInForce
    store: Store
    catalog: Catalog
    downstreams: Fleet
    runner: Runner
    scheduler: Scheduler
    gateway: Gateway
    operations: Operations
    subscriptions: Subscriptions
    waiters: Waiters
    agent: Server[Any]
    admin: Server[Any]
    admin_tools: AdminToolset
    people: People
    started_at: float

    @property
    def config(self) -> Config:
        """The config in force."""
        return self.in_force.config

    def is_ready(self) -> bool:
        """Whether every downstream is known or has at least tried to connect: what `tools/list` waits for."""
        if time.time() - self.started_at > FIRST_CATALOG_S:
            return True
        return all(
            self.catalog.knows(name) or downstream.status.state != "starting"
            for name, downstream in self.downstreams.items()
        )


async def assemble(
    config: Config,
    store: Store,
    admin_token_sha256: str,
    control: EngineControl,
    monotonic_clock: Callable[[], float] = time.monotonic,
) -> Assembly:
    """Build an engine on `store`, with the catalogs of its last run already in place. Nothing runs yet."""
    policy = LivePolicy(policy_of(config))
    catalog = Catalog(prefix=config.prefix, patterns=config.patterns, trust=config.trust, policy=policy)
    offerings = Offerings([spec.name for spec in config.downstreams], prefix=config.prefix)
    await _restore(catalog, offerings, store, config)
    waiters, queued = Waiters(), asyncio.Event()

    def seen(record: CatalogRecord) -> None:
        catalog.update(record)
        offerings.declare(record.downstream, record.capabilities)
        keep(record.downstream)
        queued.set()

    def keep(downstream: str) -> None:
        known = catalog.record_of(downstream)
        if known is not None:
            store.commit_soon((SaveCatalog(known),))

    async def owns_task(principal: Principal, task_id: str) -> bool:
        return await access.owns(task_id, principal)

    def heard(downstream: str) -> OnNews:
        def hear(news: News) -> None:
            if not isinstance(news, ListedFor):
                _hear(downstream, news, offerings, subscriptions)
            elif catalog.learn(downstream, news.capabilities, news.tools):
                keep(downstream)

        return hear

    fleet = Fleet(config.downstreams, seen, heard, monotonic_clock)
    subscriptions = Subscriptions(Watches(offerings, fleet), owns_task)
    catalog.subscribe(lambda: subscriptions.publish(Kind.TOOLS))
    offerings.subscribe(subscriptions.publish)
    people = People(config, admin_token_sha256)
    owner = f"{os.getpid()}-{new_id()[:8]}"
    runner = Runner(store, catalog, policy, fleet, people.known, waiters, queued, owner, runner_settings(config))
    gateway = Gateway(store, catalog, policy, fleet, runner, waiters, await _seal(store), gateway_settings(config))
    operations = Operations(store, catalog, policy, fleet, people.known, runner, gateway, waiters)
    identities = identities_of(config)
    scheduler = Scheduler(store, runner, waiters, queued, identities, config.retention)
    access = TaskAccess(operations)
    results = Results(catalog, config.max_result_bytes)
    extension = TasksExtension(access, gateway, results, config.retention.payload_s)
    waiters.subscribe(TaskNews(extension, subscriptions))
    core = CoreTasks(store, gateway, access, results, config.retention.payload_s)
    handles = Handles(store, gateway, operations, results)
    agent_tools = AgentToolset(gateway, catalog, handles, Offers(extension, core), results)
    relay = Relay(offerings, fleet, subscriptions, StoredResults(operations))
    agent = build_server("holdfast", "Holdfast", INSTRUCTIONS, agent_tools, relay)
    TaskMethods(gateway, extension, core).serve_on(agent)
    admin_tools = AdminToolset(store, operations, control, approving_roles(config))
    parts = LiveParts(
        store=store,
        policy=policy,
        fleet=fleet,
        identities=identities,
        people=people,
        catalog=catalog,
        offerings=offerings,
        gateway=gateway,
        runner=runner,
        scheduler=scheduler,
        results=results,
        tasks=(extension, core),
        subscriptions=subscriptions,
        admin_tools=admin_tools,
    )
    return Assembly(
        in_force=ConfigInForce(config, parts),
        store=store,
        catalog=catalog,
        downstreams=fleet,
        runner=runner,
        scheduler=scheduler,
        gateway=gateway,
        operations=operations,
        subscriptions=subscriptions,
        waiters=waiters,
        agent=agent,
        admin=build_server("holdfast-admin", "Holdfast admin", ADMIN_INSTRUCTIONS, admin_tools),
        admin_tools=admin_tools,
        people=people,
        started_at=time.time(),
    )


async def _seal(store: Store) -> Seal:
    """The seal of this store's rounds of input, made at its first use."""
    (kept,) = await store.commit((KeepSecret("request-state", secrets.token_bytes(SEAL_KEY_BYTES)),))
    if not isinstance(kept, Kept):
        raise TypeError(f"a secret was answered with {kept!r}")
    return Seal(kept.value)


def _hear(downstream: str, news: News, offerings: Offerings, subscriptions: Subscriptions) -> None:
    """Pass on what one downstream tells by itself."""
    match news:
        case Offered():
            offerings.take_in(downstream, news)
        case Updated(uri):
            subscriptions.publish_resource(offerings.exposed_uri(downstream, uri))
        case Said(params):
            subscriptions.publish_message(params)
        case Elicited(params):
            subscriptions.publish_elicited(params)


async def _restore(catalog: Catalog, offerings: Offerings, store: Store, config: Config) -> None:
    """What the downstreams offered last time, as far as they are still the same ones."""
    identities = identities_of(config)
    for record in await store.catalogs():
        if identities.get(record.downstream) == record.identity:
            catalog.update(record)
            offerings.declare(record.downstream, record.capabilities, restored=True)
