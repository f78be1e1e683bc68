"""The backends that the contract is proved on. A backend is a function that opens an empty store with a clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from store_builders import Clock

from holdfast_store.contract import Store
from holdfast_store.open import open_store


async def _sqlite(folder: Path, clock: Clock) -> Store:
    return await open_store(f"sqlite://{folder}/state.db", clock=clock)


BACKENDS: dict[str, Callable[[Path, Clock], Awaitable[Store]]] = {"sqlite": _sqlite}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    opened = await BACKENDS[request.param](tmp_path, clock)
    yield opened
    health = await opened.health(deep=True)
    await opened.close()
    assert health.problems == ()
