"""A real `holdfast serve --http` in front of the ledger downstream, and clients of both eras."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from offering import Offering
from support.processes import Processes, Running
from support.workspace import HOLDFAST, Workspace

START_S = 30.0

ERAS = ("legacy", "auto")

Connect = Callable[..., AbstractAsyncContextManager[Client]]


class Service:
    """A running `serve --http` of one workspace."""

    def __init__(self, workspace: Workspace, running: Running, url: str) -> None:
        self.workspace = workspace
        self.running = running
        self.url = url

    @property
    def root(self) -> str:
        return self.url.removesuffix("/mcp")

    @property
    def operator_token(self) -> str:
        (path,) = self.workspace.state_home.glob("holdfast/*/admin.token")
        return Path(path).read_text().strip()

    @property
    def store(self) -> Path:
        (path,) = self.workspace.state_home.glob("holdfast/*/state.db")
        return path

    @asynccontextmanager
    async def client(
        self, mode: str = "auto", *, path: str = "/mcp", token: str | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        """A client of one era; with `token`, as whoever that is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(self.root + path, http_client=http)
            async with Client(transport, mode=mode, cache=None, **options) as client:
                yield client

    def admin(self, token: str | None = None) -> AbstractAsyncContextManager[Client]:
        """A client of the admin endpoint; as the operator where no `token` is named."""
        return self.client(path="/admin/mcp", token=token or self.operator_token)


Started = Callable[..., Service]


@pytest.fixture
def started(workspace: Workspace, processes: Processes) -> Started:
    """Start `serve --http` with these settings on top of one ledger downstream."""

    def start(**settings: Any) -> Service:
        workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, **settings})
        command = [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0"]
        running = processes.start(command, environment=workspace.environment)
        url = running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)
        return Service(workspace, running, url)

    return start


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    """The client's mode: the handshake of 2025-11-25, or 2026-07-28 without one."""
    return str(request.param)


DOWNSTREAMS = tuple(f"{era} downstream {how}" for era in ("2025", "2026") for how in ("on stdio", "over HTTP"))


@pytest.fixture(params=DOWNSTREAMS)
def downstream(request: pytest.FixtureRequest, workspace: Workspace, processes: Processes) -> Callable[..., Offering]:
    """Make a downstream of one era, reached in one way, of a server in `servers`."""

    def make(name: str, server: str) -> Offering:
        era, _, how = str(request.param).split(" ", 2)
        made = Offering(workspace.folder, name, *(["--legacy"] if era == "2025" else []), server=server)
        if how == "over HTTP":
            made.serve(processes)
        return made

    return make


@pytest.fixture
def offering(downstream: Callable[..., Offering]) -> Offering:
    """A downstream that offers everything."""
    return downstream("offering", "offering.py")
