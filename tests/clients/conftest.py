"""Holdfast in front of the ledger downstream, over each transport, and each client in front of it."""

from collections.abc import Callable

import pytest
from callers import Where
from kinds import Kind, those
from support.processes import Processes
from support.workspace import Workspace
from system.asking import Operator, serve_http

Reach = Callable[[], Where]


@pytest.fixture
def operator(workspace: Workspace) -> Operator:
    """The operator of the workspace's engine."""
    return Operator(workspace)


@pytest.fixture(params=("stdio", "http"))
def where(request: pytest.FixtureRequest, workspace: Workspace, processes: Processes) -> Reach:
    """How Holdfast is reached once the workspace's config is written: what a client spawns, or a URL."""

    def reach() -> Where:
        return workspace.server() if request.param == "stdio" else serve_http(processes, workspace)[1]

    return reach


@pytest.fixture(params=those())
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the clients."""
    found: Kind = request.param
    return found
