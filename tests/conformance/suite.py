"""The official conformance suite: installed from its lock, asked what it requires, and run against a server."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from conformance.checks import Check, Key, read_results
from support.npm import NODE, installed
from support.once import InstallError
from support.processes import Processes

LOCKED = Path(__file__).resolve().parent / "suite"
PACKAGE = Path("node_modules") / "@modelcontextprotocol" / "conformance"

REVISIONS = ("2026-07-28", "2025-11-25")
TASKS_REVISION = "2026-07-28"

SCENARIO_S = 30
RUN_S = 900.0


class SuiteError(Exception):
    """The suite cannot be installed, or cannot be run; says what to do."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a protocol revision requires of a server, and what the suite runs besides."""

    scored: tuple[Key, ...]
    unscored: tuple[Key, ...]

    @property
    def all(self) -> tuple[Key, ...]:
        return self.scored + self.unscored


class Suite:
    """An installed suite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._node = folder / NODE
        self._entry = folder / PACKAGE / "dist" / "index.js"

    @classmethod
    def install(cls) -> "Suite":
        """The suite of the lock, installed where that was not done yet. Raises `SuiteError`."""
        try:
            suite = cls(installed(LOCKED, "conformance"))
        except InstallError as error:
            raise SuiteError(str(error)) from error
        suite.versions()
        return suite

    def versions(self) -> dict[str, str]:
        """The versions that are installed, by package. Raises `SuiteError` where one is missing or will not run."""
        try:
            manifest = json.loads((self._folder / PACKAGE / "package.json").read_text())
            node = subprocess.run([self._node, "--version"], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise SuiteError(
                f"the suite in {self._folder} is not complete: {error}; remove it and try again"
            ) from error
        return {"conformance": manifest["version"], "node": node.stdout.strip().removeprefix("v")}

    def requirements(self, revision: str) -> Requirements:
        """What `revision` requires of a server, as the suite's own frozen list says."""
        listed = yaml.safe_load((self._folder / PACKAGE / "requirements" / f"{revision}.yaml").read_text())
        unscored = [entry["scenario"] for entry in listed["not_scored"] if entry["leg"] == "server"]
        return Requirements(
            tuple(Key(revision, scenario) for scenario in listed["server"]),
            tuple(Key(revision, scenario) for scenario in unscored),
        )

    def tasks(self) -> tuple[Key, ...]:
        """The scenarios of the tasks extension that check something (one of them is still empty)."""
        found = self.requirements(TASKS_REVISION).unscored
        empty = Key(TASKS_REVISION, "tasks-status-notifications")
        return tuple(key for key in found if key.scenario.startswith("tasks-") and key != empty)

    def run_revision(self, processes: Processes, url: str, revision: str, folder: Path) -> dict[Key, tuple[Check, ...]]:
        """Run everything that `revision` requires, and what the suite runs besides; results go below `folder`."""
        return self._run(processes, url, revision, folder / revision, "--requirements", revision)

    def run_scenario(self, processes: Processes, url: str, key: Key, folder: Path) -> dict[Key, tuple[Check, ...]]:
        """Run one scenario at its revision."""
        options = ("--scenario", key.scenario, "--spec-version", key.revision, "--force")
        return self._run(processes, url, key.revision, folder / key.revision / key.scenario, *options)

    def _run(
        self, processes: Processes, url: str, revision: str, folder: Path, *options: str
    ) -> dict[Key, tuple[Check, ...]]:
        """What the suite found; scenarios that it had not finished after `RUN_S` are not in it. Raises `SuiteError`."""
        folder.mkdir(parents=True)
        command: list[str | Path] = [self._node, self._entry, "server", "--url", url, "-o", folder]
        running = processes.start([*command, "--timeout", str(SCENARIO_S * 1000), *options])
        try:
            running.wait(RUN_S)
        except subprocess.TimeoutExpired:
            running.kill()
        found = read_results(folder, revision)
        if not found:
            raise SuiteError(f"the suite found nothing out about {url}:\n{running.stdout}{running.stderr}")
        return found
