"""A place of its own for one test: a config, a state home, a ledger, and the installed `holdfast` in front of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters
from support.ledger import Ledger
from support.processes import end, with_environment

SUPPORT = Path(__file__).resolve().parent
HOLDFAST = Path(sys.executable).with_name("holdfast")


class Workspace:
    """`folder` must be short: a Unix socket's path has at most about 100 bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_home = folder / "state"
        self.config = folder / "holdfast.yaml"
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.environment: dict[str, str] = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            "XDG_STATE_HOME": str(self.state_home),
            "XDG_RUNTIME_DIR": str(folder),
        }

    def ledger_command(self, *options: str) -> list[str]:
        """The command line of a ledger downstream that writes this workspace's ledger."""
        return [sys.executable, str(SUPPORT / "ledger_server.py"), str(self.ledger.path), *options]

    def ledger_downstream(self, *options: str) -> dict[str, Any]:
        """The same as an entry of `mcpServers`."""
        command, *args = self.ledger_command(*options)
        return {"command": command, "args": args, "env": {"PYTHONPATH": str(SUPPORT.parent)}}

    def write_config(self, settings: Mapping[str, Any] | None = None) -> Path:
        """Write the config; without `settings`, one ledger downstream named `ledger`. JSON is valid YAML."""
        chosen = {"mcpServers": {"ledger": self.ledger_downstream()}} if settings is None else dict(settings)
        self.config.write_text(json.dumps(chosen, indent=2))
        return self.config

    def server(self, *options: str) -> StdioServerParameters:
        """What an `mcp.Client` spawns to reach this config over stdio."""
        return StdioServerParameters(
            command=str(HOLDFAST), args=["serve", str(self.config), *options], env=self.environment, cwd=self.folder
        )

    def run(
        self, *arguments: str, timeout_s: float = 30.0, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, in this workspace, with `variables` besides the workspace's own.

        Raises `subprocess.TimeoutExpired`.
        """
        return subprocess.run(
            [str(HOLDFAST), *arguments],
            env={**self.environment, **(variables or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> list[int]:
        """Every process of this workspace that is alive, detached engines among them."""
        return with_environment("XDG_STATE_HOME", str(self.state_home))

    def end_all(self) -> None:
        """End every process of this workspace."""
        for pid in self.processes():
            end(pid)
