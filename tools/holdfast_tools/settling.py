"""Waiting for what downstreams list, where nothing is known of it yet: to everybody, or to this kind of client."""

import asyncio
from collections.abc import Mapping

import anyio

from holdfast_tools.catalog import Catalog
from holdfast_tools.client import ClientProfile
from holdfast_tools.conditional import Awaits
from holdfast_tools.downstream.interactive import asks_back
from holdfast_tools.downstream.owner import Downstream

FIRST_CATALOG_S = 15.0
"""How long after its start a call or a listing waits for a downstream of which nothing is known yet; also how long a
call waits for the listing by which its client may know the tool."""

LISTING_S = 4.0
"""How long a listing waits for what its kind of client is shown besides; what comes later is a change of the list."""


class Settling:
    """Waits until a name can be told to be one, or not. Known is what the catalog knows."""

    def __init__(self, catalog: Catalog, downstreams: Mapping[str, Downstream]) -> None:
        self._catalog = catalog
        self._downstreams = downstreams

    async def settle(self, client: ClientProfile, tool: str | None) -> None:
        """Wait for downstreams whose tools are not known; with `tool`, only for those whose prefix it could carry.

        At most `FIRST_CATALOG_S` from their start for what they list to everybody; then for what they list to clients
        that can be asked what this one can.
        """
        unknown = self.unknown_owners(tool)
        if unknown:
            async with anyio.create_task_group() as tasks:
                for downstream in unknown:
                    tasks.start_soon(downstream.settled, FIRST_CATALOG_S)
        pending = self._begin_listings(client, tool)
        with anyio.move_on_after(LISTING_S if tool is None else FIRST_CATALOG_S):
            for listed in pending:
                await listed.wait()

    def unknown_owners(self, tool: str | None) -> list[Downstream]:
        """The downstreams that never listed their tools, as far as `tool` could be one of them."""
        return [
            downstream
            for name, downstream in self._downstreams.items()
            if not self._catalog.knows(name) and self._could_offer(name, tool)
        ]

    def _begin_listings(self, client: ClientProfile, tool: str | None) -> list[asyncio.Event]:
        """Have listed what this kind of client is shown; those to wait for.

        A listing waits for none that must connect first, and for none that was known: it shows what was.
        """
        capabilities = asks_back(client)
        pending = []
        for name, downstream in self._downstreams.items():
            missing = self._catalog.awaits(name, capabilities)
            if missing is None or not self._could_offer(name, tool):
                continue
            listed = downstream.list_for(client)
            if tool is not None or (missing is Awaits.ANYTHING and downstream.status.state == "connected"):
                pending.append(listed)
        return pending

    def _could_offer(self, downstream: str, tool: str | None) -> bool:
        return tool is None or self._catalog.could_offer(downstream, tool)
