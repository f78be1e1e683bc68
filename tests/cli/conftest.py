"""A config of the test's own, with or without history behind it."""

import asyncio
from pathlib import Path

import pytest
from cli_history import CONFIG, History, fill, new_approval, new_call

from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose state is in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    path = tmp_path / "holdfast.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def history(config: Path) -> History:
    identity = DownstreamSpec("payments", StdioSpec("payments-server", cwd=str(config.parent))).identity
    asyncio.run(fill(f"sqlite://{config.parent}/state.db", identity))
    return History(config, new_call(1, 0).id, new_call(2, 0).id, new_approval(102).id, new_call(3, 0).id)
