"""Fixtures of the tests of downstreams."""

from pathlib import Path

import pytest
from support.processes import Processes
from watching import HttpServer, ScriptedServer


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedServer:
    return ScriptedServer(tmp_path)


@pytest.fixture
def http_server(processes: Processes, tmp_path: Path) -> HttpServer:
    return HttpServer(processes, tmp_path)
