"""Reading a store straight from its file: listings work with no engine, and change nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from holdfast_server.cli.failures import NOT_FOUND, Failure
from holdfast_server.mcp.payloads import approval_payload, call_payload, entry_payload
from holdfast_store.contract import CallFilter, Health, Page, Store
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import ApprovalStatus, CatalogRecord, Json
from holdfast_store.open import check_before_opening, open_store_for_reading, store_path

Found = TypeVar("Found")


def read(url: str, action: Callable[[Store], Awaitable[Found]], missing: Found) -> Found:
    """What `action` finds in the store at `url`; `missing` where nothing was ever stored. Raises `StoreError`."""

    async def run() -> Found:
        check_before_opening(url)
        store = await open_store_for_reading(url)
        try:
            return await action(store)
        finally:
            await store.close()

    return asyncio.run(run()) if store_path(url).exists() else missing


def calls(url: str, states: frozenset[State] | None, tool: str | None, limit: int, cursor: str | None) -> Json:
    """The payload of `list_calls`."""

    async def find(store: Store) -> Json:
        page = await _page(store.list_calls(CallFilter(states=states, tool=tool), limit, cursor))
        return _listed("calls", [call_payload(call) for call in page.items], page.cursor)

    return read(url, find, {"calls": []})


def call(url: str, call_id: str) -> Json:
    """The payload of `get_call`. Raises `Failure` where there is none."""

    async def find(store: Store) -> Json | None:
        found = await store.get_call(call_id)
        if found is None:
            return None
        entries = await store.journal(call_id)
        return {"call": call_payload(found), "timeline": [entry_payload(entry) for entry in entries]}

    return _required(read(url, find, None), "call", call_id)


def approvals(url: str, status: ApprovalStatus | None, limit: int, cursor: str | None) -> Json:
    """The payload of `list_approvals`."""

    async def find(store: Store) -> Json:
        page = await _page(store.list_approvals(status, limit, cursor))
        return _listed("approvals", [approval_payload(approval) for approval in page.items], page.cursor)

    return read(url, find, {"approvals": []})


def approval(url: str, approval_id: str) -> Json:
    """The payload of `get_approval`. Raises `Failure` where there is none."""

    async def find(store: Store) -> Json | None:
        found = await store.get_approval(approval_id)
        return None if found is None else {"approval": approval_payload(found)}

    return _required(read(url, find, None), "approval", approval_id)


def catalogs(url: str) -> tuple[CatalogRecord, ...]:
    """The tools of all downstreams as last seen."""

    async def find(store: Store) -> tuple[CatalogRecord, ...]:
        return tuple(await store.catalogs())

    return read(url, find, ())


def health(url: str) -> Health | None:
    """How the store is, after an integrity check; None where there is none yet."""

    async def find(store: Store) -> Health | None:
        return await store.health(deep=True)

    return read(url, find, None)


async def _page(reading: Awaitable[Page[Found]]) -> Page[Found]:
    try:
        return await reading
    except ValueError as error:
        raise Failure(f"--cursor: {error}; leave it out to begin at the newest") from error


def _listed(name: str, items: list[Json], cursor: str | None) -> Json:
    return {name: items} if cursor is None else {name: items, "cursor": cursor}


def _required(found: Json | None, kind: str, wanted: str) -> Json:
    if found is None:
        raise Failure(f"there is no {kind} {wanted!r}; `holdfast {kind}s list CONFIG` shows those there are", NOT_FOUND)
    return found
