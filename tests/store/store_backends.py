"""The backends that the contract is proved on: each opens the store in a folder, empty or as it was closed."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from store_builders import Clock

from holdfast_store.contract import Retention, Store
from holdfast_store.open import open_store
from holdfast_store.sqlite.connection import InlineConnection, connect_writer
from holdfast_store.sqlite.migrate import migrate
from holdfast_store.sqlite.store import SqliteStore

OpenStore = Callable[[Path, Clock], Coroutine[Any, Any, Store]]


async def _sqlite(folder: Path, clock: Clock) -> Store:
    return await open_store(f"sqlite://{folder}/state.db", clock=clock)


async def _sqlite_inline(folder: Path, clock: Clock) -> Store:
    """One connection for everything, without a thread and without waiting for the disk: as a simulation has it."""
    path = folder / "state.db"
    path.touch(mode=0o600)
    connection = connect_writer(path)
    connection.execute("PRAGMA synchronous = OFF")
    migrate(connection, str(path))
    inline = InlineConnection(connection)
    return SqliteStore(path=path, writer=inline, lookups=inline, lists=inline, clock=clock, retention=Retention())


BACKENDS: dict[str, OpenStore] = {
    "sqlite": _sqlite,
    "sqlite-inline": _sqlite_inline,
}
