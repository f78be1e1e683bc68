"""An empty store of every backend that there is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_backends import BACKENDS
from store_builders import Clock

from holdfast_store.contract import Store


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
