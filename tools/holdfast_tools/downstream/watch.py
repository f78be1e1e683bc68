"""The resources of a server that somebody wants to hear of, on one connection.

Before 2026-07-28 each is subscribed to by a request. Since then one listen stream names them all: when they change, the
new stream is open before the old one is closed, so that no update falls between.
"""

import logging
from collections.abc import Callable, Iterable
from secrets import SystemRandom

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.client.client import Client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError

from holdfast_tools import sdk

log = logging.getLogger("holdfast.downstream")

RELISTEN_FIRST_S = 0.5
RELISTEN_LONGEST_S = 30.0

_random = SystemRandom()


class ResourceWatch:
    """Lives in `tasks`. `on_gap` is called with each URI of which updates may have been missed."""

    def __init__(
        self, client: Client, name: str, tasks: TaskGroup, timeout_s: float, on_gap: Callable[[str], None]
    ) -> None:
        self._client = client
        self._name = name
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._on_gap = on_gap
        self._is_modern = sdk.is_modern(client.protocol_version)
        self._uris: set[str] = set()
        self._stream: anyio.CancelScope | None = None
        self._lock = anyio.Lock()

    async def add(self, uri: str) -> None:
        """Hear of `uri` from now on. Raises MCPError where the server refuses, TimeoutError where it is silent."""
        async with self._lock:
            if uri in self._uris:
                return
            if self._is_modern:
                await self._listen_to(self._uris | {uri})
            else:
                await self._ask("resources/subscribe", uri)
            self._uris.add(uri)

    async def discard(self, uri: str) -> None:
        """Hear of `uri` no more. Raises as `add` does."""
        async with self._lock:
            if uri not in self._uris:
                return
            self._uris.discard(uri)
            if self._is_modern:
                await self._listen_to(self._uris)
            else:
                await self._ask("resources/unsubscribe", uri)

    async def resume(self, uris: Iterable[str]) -> None:
        """Hear again of what an earlier connection watched; a refusal is logged."""
        for uri in sorted(uris):
            try:
                await self.add(uri)
                self._on_gap(uri)
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                log.warning("%s: the resource %s cannot be watched any more: %s", self._name, uri, error)

    async def _ask(self, method: str, uri: str) -> None:
        await sdk.request(self._client.session, method, {"uri": uri}, timeout_s=self._timeout_s)

    async def _listen_to(self, uris: set[str]) -> None:
        before = self._stream
        self._stream = await self._tasks.start(self._hold, frozenset(uris)) if uris else None
        if before is not None:
            before.cancel()

    async def _hold(
        self, uris: frozenset[str], *, task_status: TaskStatus[anyio.CancelScope] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep a stream for `uris` open; what comes on it is told by the session's own handler of notifications."""
        opened = False
        pause_s = RELISTEN_FIRST_S
        with anyio.CancelScope() as scope:
            while True:
                try:
                    async with self._client.listen(resource_subscriptions=sorted(uris)) as subscription:
                        pause_s = RELISTEN_FIRST_S
                        if opened:
                            self._missed(uris)
                        else:
                            opened = True
                            task_status.started(scope)
                        async for _ in subscription:
                            pass
                except (MCPError, SubscriptionLost, TimeoutError) as error:
                    if not opened:
                        raise
                    if isinstance(error, MCPError) and not sdk.made_up(error):
                        log.info("%s: it tells of its resources no more: %s", self._name, error.message)
                        return
                await anyio.sleep(_random.uniform(pause_s / 2, pause_s))
                pause_s = min(RELISTEN_LONGEST_S, pause_s * 2)

    def _missed(self, uris: Iterable[str]) -> None:
        for uri in sorted(uris):
            self._on_gap(uri)
