"""Which resources are watched at which downstream, for however many clients want to hear of them."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from holdfast_store.model.errors import DownstreamError
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.offerings import Offerings, Owned

log = logging.getLogger("holdfast.listen")


@dataclass(slots=True)
class _Watch:
    """One URI as clients see it. `holders` counts the clients, `at` is where it is watched."""

    holders: int = 0
    at: Owned | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Watches:
    """The first client that wants a URI has it watched, the last one ends that."""

    def __init__(self, offerings: Offerings, downstreams: Mapping[str, Downstream]) -> None:
        self._offerings = offerings
        self._downstreams = downstreams
        self._watches: dict[str, _Watch] = {}

    async def add(self, uri: str) -> None:
        """Hear of `uri` for one client more. Raises MCPError where no downstream takes it."""
        watch = self._watches.setdefault(uri, _Watch())
        watch.holders += 1
        try:
            async with watch.lock:
                if watch.at is None:
                    watch.at = await self._begin(uri)
        except BaseException:
            watch.holders -= 1
            if not watch.holders and watch.at is None:
                self._watches.pop(uri, None)
            raise

    async def release(self, uri: str) -> None:
        """Hear of `uri` for one client less. Never raises: a downstream that does not answer is logged."""
        watch = self._watches.get(uri)
        if watch is None:
            return
        watch.holders -= 1
        async with watch.lock:
            if watch.holders or self._watches.get(uri) is not watch:
                return
            if watch.at is not None:
                await self._end(watch.at)
                watch.at = None
            if not watch.holders:  # else somebody waits for the lock, to begin anew
                self._watches.pop(uri, None)

    async def _begin(self, uri: str) -> Owned:
        refusal: MCPError | None = None
        for owned in self._offerings.find_resource(uri):
            try:
                await self._downstreams[owned.downstream].watch(owned.name)
            except MCPError as error:
                refusal = refusal or error
            except DownstreamError as error:
                refusal = refusal or MCPError(INTERNAL_ERROR, str(error))
            else:
                return owned
        raise refusal or MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})

    async def _end(self, owned: Owned) -> None:
        try:
            await self._downstreams[owned.downstream].unwatch(owned.name)
        except (MCPError, DownstreamError) as error:
            log.info("a watched resource could not be let go", extra={"uri": owned.name, "error": str(error)})
