"""The servers that the suite is run against: the fixture itself, and Holdfast in front of it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import Processes
from support.workspace import HOLDFAST, Workspace

TESTS = Path(__file__).resolve().parents[1]
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Leg:
    """One way to reach the fixture."""

    name: str
    through_holdfast: bool
    fixture_has_tasks: bool


DIRECT = Leg("direct", through_holdfast=False, fixture_has_tasks=True)
THROUGH = Leg("through Holdfast", through_holdfast=True, fixture_has_tasks=True)
WITHOUT_TASKS = Leg("downstream without tasks", through_holdfast=True, fixture_has_tasks=False)

TASK_SETTINGS = {
    "fixture__slow_compute": {"inline_wait": "500ms"},
    "fixture__failing_job": {"task": "required"},
    "fixture__protocol_error_job": {"task": "always"},
    "fixture__confirm_delete": {"task": "always"},
    "fixture__multi_input": {"task": "always"},
    "fixture__test_tool_with_task": {"inline_wait": "1s"},
}
"""What an operator says of tools whose server knows nothing of tasks, so that they behave as those that do."""


@contextmanager
def started(leg: Leg) -> Iterator[tuple[Processes, str]]:
    """The URL of a leg's server, and where more processes may be started; all of them end with the block.

    Raises `TimeoutError` with what a server printed where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        workspace = Workspace(Path(folder))
        processes = Processes(Path(folder))
        try:
            url = _start_fixture(processes, leg)
            if leg.through_holdfast:
                url = _start_holdfast(processes, workspace, leg, url)
            yield processes, url
        finally:
            processes.end_all()
            workspace.end_all()


def _start_fixture(processes: Processes, leg: Leg) -> str:
    options = [] if leg.fixture_has_tasks else ["--without-tasks"]
    command = [sys.executable, "-m", "conformance.fixture", *options]
    running = processes.start(command, environment=dict(os.environ) | {"PYTHONPATH": str(TESTS)})
    return running.wait_for(r"listening on (http://\S+/mcp)", START_S).group(1)


def _start_holdfast(processes: Processes, workspace: Workspace, leg: Leg, fixture: str) -> str:
    config = workspace.write_config(settings(leg, fixture))
    command: list[str | Path] = [HOLDFAST, "serve", config, "--http", "127.0.0.1:0"]
    running = processes.start(command, environment=workspace.environment)
    return running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)


def settings(leg: Leg, fixture: str) -> dict[str, Any]:
    """A config that lets every call through and leaves the rest on: validation, policy, journal, at most once."""
    return {
        "mcpServers": {"fixture": {"url": fixture}},
        "naming": {"prefix": False},
        "rules": [{"id": "allow-all", "effect": "allow"}],
        "tools": {} if leg.fixture_has_tasks else TASK_SETTINGS,
    }
