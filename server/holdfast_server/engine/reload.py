"""A running engine is given another config: what that changes is exchanged in place, and nothing else is touched."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast_policy.decide import PolicySet
from holdfast_server.config import Config
from holdfast_server.config.changes import Changes, changes
from holdfast_server.engine.fleet import Fleet
from holdfast_server.engine.live_policy import LivePolicy
from holdfast_server.engine.people import People, approving_roles
from holdfast_server.mcp.admin import AdminToolset
from holdfast_server.mcp.listen import Subscriptions
from holdfast_server.mcp.results import Results
from holdfast_server.mcp.tasks.core import CoreTasks
from holdfast_server.mcp.tasks.extension import TasksExtension
from holdfast_store.contract import Store
from holdfast_store.model.values import CatalogRecord
from holdfast_tools.catalog import Catalog
from holdfast_tools.gateway import Gateway, GatewaySettings
from holdfast_tools.offerings import Offerings
from holdfast_tools.runner import Runner
from holdfast_tools.scheduler import Scheduler
from holdfast_tools.settings import MOST_UNDER_WAY, RunnerSettings


def gateway_settings(config: Config) -> GatewaySettings:
    """What the config says to the gateway."""
    return GatewaySettings(config.inline_wait_s, config.max_arguments_bytes)


def runner_settings(config: Config) -> RunnerSettings:
    """What the config says to the runner."""
    places = sum(spec.max_concurrency for spec in config.downstreams)
    return RunnerSettings(answer_within_s=config.answer_within_s, max_under_way=max(places, MOST_UNDER_WAY))


def policy_of(config: Config) -> PolicySet:
    """The policy of the config."""
    return PolicySet(config.preset, config.rules, config.approval_defaults)


def identities_of(config: Config) -> dict[str, str]:
    """The identity of each downstream, by name."""
    return {spec.name: spec.identity for spec in config.downstreams}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveParts:
    """All that goes by a config and can be given another. `identities` is shared with the scheduler."""

    store: Store
    policy: LivePolicy
    fleet: Fleet
    identities: dict[str, str]
    people: People
    catalog: Catalog
    offerings: Offerings
    gateway: Gateway
    runner: Runner
    scheduler: Scheduler
    results: Results
    tasks: tuple[TasksExtension, CoreTasks]
    subscriptions: Subscriptions
    admin_tools: AdminToolset


class ConfigInForce:
    """The config that an engine goes by, and since when (`loaded_at`, in seconds since the epoch)."""

    def __init__(self, config: Config, parts: LiveParts) -> None:
        self.config = config
        self.loaded_at = time.time()
        self._parts = parts

    async def exchange(self, config: Config, drain_s: float) -> Changes:
        """Go by `config`; what that changed. Raises `StoreError`, and then nothing has changed.

        Each request, and each step of a call, goes by one config as a whole. A downstream that leaves has `drain_s`
        seconds for what was sent to it.
        """
        records = await self._records(config)
        policy = policy_of(config)
        # No await from here on: nobody may see half of a config.
        found = changes(self.config, config)
        self._exchange_downstreams(config, policy, records, drain_s)
        self._exchange_people(config)
        self._exchange_settings(config)
        self.config = config
        self.loaded_at = time.time()
        return found

    async def _records(self, config: Config) -> Sequence[CatalogRecord]:
        """What is known of the config's downstreams: from their connections, else from an earlier run."""
        stored = await self._parts.store.catalogs()
        identities = identities_of(config)
        seen = (*stored, *self._parts.catalog.records)
        fitting = [record for record in seen if identities.get(record.downstream) == record.identity]
        return tuple({record.downstream: record for record in fitting}.values())

    def _exchange_downstreams(
        self, config: Config, policy: PolicySet, records: Sequence[CatalogRecord], drain_s: float
    ) -> None:
        parts = self._parts
        identities = identities_of(config)
        kept = {name for name, identity in identities.items() if parts.identities.get(name) == identity}
        parts.policy.exchange(policy)
        parts.fleet.arrange(config.downstreams, drain_s)
        parts.identities.clear()
        parts.identities.update(identities)
        parts.catalog.reconfigure(records, prefix=config.prefix, patterns=config.patterns, trust=config.trust)
        parts.offerings.reconfigure(list(identities), prefix=config.prefix, kept=kept)
        for record in records:
            if record.downstream not in kept:
                parts.offerings.declare(record.downstream, record.capabilities, restored=True)

    def _exchange_people(self, config: Config) -> None:
        parts = self._parts
        withdrawn = parts.people.take(config)
        parts.admin_tools.admit(approving_roles(config))
        parts.subscriptions.dismiss(withdrawn.gone)
        parts.subscriptions.dismiss(withdrawn.over_http, only_over_http=True)

    def _exchange_settings(self, config: Config) -> None:
        parts = self._parts
        parts.gateway.adjust(gateway_settings(config))
        parts.runner.adjust(runner_settings(config))
        parts.results.bound(config.max_result_bytes)
        for tasks in parts.tasks:
            tasks.kept_s = config.retention.payload_s
        parts.store.retain(config.retention)
        parts.scheduler.reconfigured(config.retention)
