"""The eras, and an operator beside each test's own workspace."""

import pytest
from asking import Operator
from support.workspace import Workspace


@pytest.fixture(params=("auto", "legacy"))
def era(request: pytest.FixtureRequest) -> str:
    """The client's mode: 2026-07-28 without a handshake, or the handshake of 2025-11-25."""
    return str(request.param)


@pytest.fixture
def operator(workspace: Workspace) -> Operator:
    """The operator of the workspace's engine."""
    return Operator(workspace)
