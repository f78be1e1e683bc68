"""Everything one engine is made of, put together from a config. Data flows one way: see `docs/architecture.md`."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.lowlevel.server import Server

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Effect
from holdfast_server.config import Config
from holdfast_server.mcp.admin import ADMIN_INSTRUCTIONS, ADMIN_ROLE, AdminToolset, EngineControl
from holdfast_server.mcp.agent import AgentToolset
from holdfast_server.mcp.endpoint import build_server
from holdfast_server.mcp.handles import Handles
from holdfast_server.mcp.instructions import INSTRUCTIONS
from holdfast_server.mcp.tokens import TokenDirectory
from holdfast_store.contract import SaveCatalog, Store
from holdfast_store.model.values import LOCAL, CatalogRecord, Principal, new_id
from holdfast_tools.catalog import Catalog
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.gateway import FIRST_CATALOG_S, Gateway, GatewaySettings
from holdfast_tools.operations import Operations
from holdfast_tools.runner import Runner
from holdfast_tools.scheduler import Scheduler
from holdfast_tools.waiters import Waiters

OPERATOR = Principal("operator", frozenset({"approver", ADMIN_ROLE}))
"""Who holds the engine's own admin token."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of an engine that listeners and the run loop need."""

    config: Config
    store: Store
    catalog: Catalog
    downstreams: Mapping[str, Downstream]
    runner: Runner
    scheduler: Scheduler
    gateway: Gateway
    operations: Operations
    agent: Server[Any]
    admin: Server[Any]
    admin_tools: AdminToolset
    tokens: TokenDirectory
    principals: Mapping[str, Principal]
    started_at: float

    def is_ready(self) -> bool:
        """Whether every downstream is known or has at least tried to connect: what `tools/list` waits for."""
        if time.time() - self.started_at > FIRST_CATALOG_S:
            return True
        return all(
            self.catalog.knows(name) or downstream.status.state != "starting"
            for name, downstream in self.downstreams.items()
        )


async def assemble(config: Config, store: Store, admin_token_sha256: str, control: EngineControl) -> Assembly:
    """Build an engine on `store`, with the catalogs of its last run already in place. Nothing runs yet."""
    policy = PolicySet(config.preset, config.rules, config.approval_defaults)
    catalog = Catalog(prefix=config.prefix, patterns=config.patterns, trust=config.trust, policy=policy)
    await _restore(catalog, store, config)
    waiters, queued = Waiters(), asyncio.Event()

    def seen(record: CatalogRecord) -> None:
        catalog.update(record)
        store.commit_soon((SaveCatalog(record),))
        queued.set()

    downstreams = {spec.name: Downstream(spec, seen) for spec in config.downstreams}
    known = {entry.principal.id: entry.principal for entry in config.principals}
    by_tenant = {(p.tenant, p.id): p for p in (LOCAL, OPERATOR, *known.values())}
    owner = f"{os.getpid()}-{new_id()[:8]}"
    runner = Runner(store, catalog, policy, downstreams, by_tenant, waiters, queued, owner)
    settings = GatewaySettings(config.inline_wait_s, config.max_arguments_bytes)
    gateway = Gateway(store, catalog, policy, downstreams, runner, waiters, settings)
    operations = Operations(store, catalog, policy, downstreams, by_tenant, runner, gateway, waiters)
    identities = {spec.name: spec.identity for spec in config.downstreams}
    agent_tools = AgentToolset(gateway, catalog, Handles(store, gateway, operations))
    admin_tools = AdminToolset(store, operations, control, approving_roles(config))
    tokens = {e.token_sha256: e.principal for e in config.principals if e.token_sha256 is not None}
    return Assembly(
        config=config,
        store=store,
        catalog=catalog,
        downstreams=downstreams,
        runner=runner,
        scheduler=Scheduler(store, runner, waiters, queued, identities, config.retention),
        gateway=gateway,
        operations=operations,
        agent=build_server("holdfast", "Holdfast", INSTRUCTIONS, agent_tools),
        admin=build_server("holdfast-admin", "Holdfast admin", ADMIN_INSTRUCTIONS, admin_tools),
        admin_tools=admin_tools,
        tokens=TokenDirectory({**tokens, admin_token_sha256: OPERATOR}),
        principals=known,
        started_at=time.time(),
    )


def approving_roles(config: Config) -> frozenset[str]:
    """The roles that open the admin endpoint: approver, admin, and those that a rule names."""
    terms = [rule.approval for rule in config.rules if rule.effect is Effect.REQUIRE_APPROVAL and rule.approval]
    named = frozenset(role for term in (*terms, config.approval_defaults) for role in term.roles)
    return OPERATOR.roles | named


async def _restore(catalog: Catalog, store: Store, config: Config) -> None:
    """What the downstreams offered last time, as far as they are still the same ones."""
    identities = {spec.name: spec.identity for spec in config.downstreams}
    for record in await store.catalogs():
        if identities.get(record.downstream) == record.identity:
            catalog.update(record)
