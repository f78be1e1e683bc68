"""A house of its own for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_house import House


@pytest.fixture
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        place = House(Path(folder))
        try:
            yield place
        finally:
            place.end_all()
