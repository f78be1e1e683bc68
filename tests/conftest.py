"""What every test shares: the event loop's backend, and the fixtures for tests with real processes."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.processes import Processes
from support.workspace import Workspace

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and the processes that the tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no times", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("no times")


@pytest.fixture
def anyio_backend() -> str:
    """All async tests run on asyncio, the only loop the product supports."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests, and however many at once: what is printed has no terminal's width."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; ends what it started, and nothing else."""
    started = Processes(tmp_path)
    yield started
    started.end_all()


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A config, a state home and a ledger of one's own; engines that came to life in it end with the test."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        place = Workspace(Path(folder))
        try:
            yield place
        finally:
            place.end_all()
