"""Fixtures of the tests of downstreams."""

import socket
import sys
from pathlib import Path

import pytest
from support.processes import Processes, Running
from watching import DEADLINE_S, SERVERS, ScriptedServer


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedServer:
    return ScriptedServer(tmp_path)


class HttpServer:
    """The HTTP server of the tests, on one port through all its lives."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self.log = folder / "http.log"
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]

    def start(self, *options: str) -> Running:
        command = [sys.executable, SERVERS / "over_http.py", str(self.port), self.log, *options]
        server = self._processes.start(command)
        server.wait_for("listening", DEADLINE_S)
        return server

    def noted(self, line: str) -> int:
        """How often the server noted `line`."""
        return self.log.read_text().splitlines().count(line) if self.log.exists() else 0


@pytest.fixture
def http_server(processes: Processes, tmp_path: Path) -> HttpServer:
    return HttpServer(processes, tmp_path)
