"""`Store` on SQLite: one writer whose commits are grouped, one connection for single reads, one for lists."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from holdfast_store.contract import CallFilter, Health, Page, Purged, Retention, Trouble, Write, WriteResult
from holdfast_store.model.errors import StoreError
from holdfast_store.model.values import Approval, ApprovalStatus, Call, CatalogRecord, JournalEntry
from holdfast_store.sqlite import reads
from holdfast_store.sqlite.apply import CommitResult, apply_batch
from holdfast_store.sqlite.committer import Committer
from holdfast_store.sqlite.connection import Connection
from holdfast_store.sqlite.faults import COMPLAINTS, explained, store_error

T = TypeVar("T")


class SqliteStore:
    """The contract's `Store`. Connections and clock are the caller's choice; `close` closes the connections.

    `writer` None makes a store that can only be read. `lists` may take long without holding up `lookups`; a
    simulation passes one connection for all three.
    """

    def __init__(
        self,
        *,
        path: Path,
        writer: Connection | None,
        lookups: Connection,
        lists: Connection,
        clock: Callable[[], float],
        retention: Retention,
    ) -> None:
        self._path = path
        self._writer = writer
        self._lookups = lookups
        self._lists = lists
        self._clock = clock
        self._retention = retention
        self._committer = Committer(self._transact)
        self._trouble: Trouble | None = None
        self._closing: asyncio.Task[None] | None = None

    async def commit(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        return await self._committer.commit(writes) if writes else ()

    def commit_soon(self, writes: Sequence[Write]) -> None:
        if writes:
            self._committer.commit_soon(writes)

    def retain(self, retention: Retention) -> None:
        self._retention = retention

    async def find_key(
        self, tenant: str, principal: str, downstream: str, original_name: str, key: str
    ) -> Call | Purged | None:
        holder = (key, principal, original_name, downstream, tenant)
        return await self._read(
            self._lookups, partial(reads.find_key, holder=holder, now=self._clock(), retention=self._retention)
        )

    async def get_call(self, call_id: str) -> Call | None:
        return await self._read(self._lookups, partial(reads.get_call, call_id=call_id))

    async def list_calls(self, match: CallFilter, limit: int, cursor: str | None = None) -> Page[Call]:
        reads.check_limit(limit)
        before = reads.position(cursor, "calls")
        return await self._read(self._lists, partial(reads.list_calls, match=match, limit=limit, before=before))

    async def get_approval(self, approval_id: str) -> Approval | None:
        return await self._read(self._lookups, partial(reads.get_approval, approval_id=approval_id))

    async def list_approvals(
        self, status: ApprovalStatus | None, limit: int, cursor: str | None = None, *, tenant: str | None = None
    ) -> Page[Approval]:
        reads.check_limit(limit)
        before = reads.position(cursor, "approvals")
        return await self._read(
            self._lists, partial(reads.list_approvals, status=status, limit=limit, before=before, tenant=tenant)
        )

    async def journal(self, call_id: str) -> Sequence[JournalEntry]:
        return await self._read(self._lookups, partial(reads.journal, call_id=call_id))

    async def runnable(self, limit: int, full: Collection[str] = ()) -> Sequence[Call]:
        return await self._read(self._lookups, partial(reads.runnable, limit=limit, full=full, now=self._clock()))

    async def next_due_s(self) -> float | None:
        return await self._read(self._lookups, partial(reads.next_due_s, now=self._clock()))

    async def catalogs(self) -> Sequence[CatalogRecord]:
        return await self._read(self._lookups, reads.catalogs)

    async def health(self, *, deep: bool = False) -> Health:
        size_bytes = sum(file.stat().st_size for file in self._files() if file.exists())
        found = await self._read(
            self._lists, partial(reads.health, location=str(self._path), size_bytes=size_bytes, deep=deep)
        )
        return replace(found, trouble=self._trouble)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="holdfast-store-closing")
        # Shielded: a caller that is being cancelled, as at shutdown, must not leave threads behind.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._committer.close()
        # Readers first: the last connection to close folds the write-ahead log into the file, and must be able to.
        with explained(str(self._path)):
            for connection in (self._lists, self._lookups, self._writer):
                if connection is not None:
                    await connection.close()

    def _files(self) -> tuple[Path, Path]:
        return self._path, self._path.with_name(self._path.name + "-wal")

    async def _transact(self, commits: Sequence[Sequence[Write]]) -> list[CommitResult]:
        if self._writer is None:
            raise StoreError(f"The store {self._path} was opened for reading; only the engine writes to it.")
        return await self._writer.run(partial(self._apply, commits))

    def _apply(self, commits: Sequence[Sequence[Write]], connection: sqlite3.Connection) -> list[CommitResult]:
        location = str(self._path)
        try:
            results = apply_batch(connection, commits, self._clock(), self._retention)
        except COMPLAINTS as error:
            results = [error] * len(commits)
        told = [store_error(each, location) if isinstance(each, COMPLAINTS) else each for each in results]
        self._note_trouble(told)
        return told

    def _note_trouble(self, results: Sequence[CommitResult]) -> None:
        failed = next((str(each) for each in results if isinstance(each, StoreError)), None)
        if failed is not None:
            self._trouble = Trouble(failed, self._clock())
        elif self._trouble is not None:
            self._trouble = replace(self._trouble, over=True)

    async def _read(self, connection: Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing is not None:
            raise StoreError("The store is closed; open it again to read.")
        with explained(str(self._path)):
            return await connection.run(work)
