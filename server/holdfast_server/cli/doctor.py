"""`holdfast doctor`: everything that could be wrong with one installation, each with its mend."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast_server.cli import engine_control
from holdfast_server.cli.catalog import last_seen
from holdfast_server.cli.check import masked
from holdfast_server.cli.client_limits import refused_by_clients
from holdfast_server.cli.failures import FAILED, OK, Exit
from holdfast_server.cli.findings import Finding, Level
from holdfast_server.cli.output import Column, moment_words, print_json, table
from holdfast_server.cli.store_findings import store_findings
from holdfast_server.config import Config, load
from holdfast_server.config.problems import ConfigProblems
from holdfast_server.engine.differences import version_warning
from holdfast_server.engine.paths import PRIVATE_FILE, PRIVATE_FOLDER, StatePaths, state_paths
from holdfast_server.version import VERSION
from holdfast_store.model.errors import HoldfastError
from holdfast_store.model.values import Json
from holdfast_store.open import store_path
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec
from holdfast_tools.ordering import leads_nowhere


def doctor(path: Path, as_json: bool) -> Exit:
    """Look at everything, print what was found; FAILED where anything is a problem."""
    findings = list(_examine(path))
    failed = any(finding.level is Level.PROBLEM for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        columns = (Column("", kept=True), Column("about"), Column("finding"))
        print(table(columns, [(finding.level.value, finding.about, finding.text) for finding in findings]))
    return FAILED if failed else OK


def _examine(path: Path) -> Iterator[Finding]:
    paths = state_paths(path, os.environ)
    try:
        config = load(path, os.environ)
    except ConfigProblems as error:
        yield from (Finding(Level.PROBLEM, "config", problem.at(path)) for problem in error.problems)
        yield from _folder(paths)
        return
    yield Finding(Level.OK, "config", f"{path} can be used")
    yield from (Finding(Level.WARNING, "config", warning) for warning in config.warnings)
    yield from _folder(paths)
    yield from _private(store_path(config.store_url), PRIVATE_FILE, "store")
    status: Json | None = None
    try:
        status = engine_control.status_if_alive(path)
    except HoldfastError as error:
        yield Finding(Level.PROBLEM, "engine", str(error))
    else:
        yield _engine(path, status)
    yield from store_findings(config, status)
    if status is not None:
        yield from (Finding(Level.WARNING, "engine", text) for text in _warnings(path, status, config))
        for downstream in status["downstreams"]:
            yield _living(downstream, config)
            yield from _gate(downstream)
    else:
        yield from (finding for spec in config.downstreams for finding in _startable(spec))
    yield from _catalog(config, living=status is not None)


def _folder(paths: StatePaths) -> Iterator[Finding]:
    if not paths.folder.exists():
        yield Finding(Level.OK, "state", f"{paths.folder} is made when the engine first starts")
        return
    found = list(_private(paths.folder, PRIVATE_FOLDER, "state"))
    found += _private(paths.token, PRIVATE_FILE, "state")
    yield from found or [Finding(Level.OK, "state", f"{paths.folder} is this user's own")]


def _private(path: Path, mode: int, about: str) -> Iterator[Finding]:
    """A problem where others may use `path`; nothing where it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding(Level.PROBLEM, about, f"{path} cannot be looked at: {error.strerror}")
        return
    if status.st_uid != os.geteuid():
        yield Finding(
            Level.PROBLEM,
            about,
            f"{path} belongs to user {status.st_uid}; run as that user, or give it back with chown",
        )
    elif stat.S_IMODE(status.st_mode) & ~mode:
        yield Finding(
            Level.PROBLEM,
            about,
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others may use it; run chmod {mode:o} {path}",
        )


def _engine(path: Path, status: Json | None) -> Finding:
    if status is None:
        return Finding(Level.OK, "engine", "none is running; it starts with the first client or change")
    engine = status["engine"]
    return Finding(
        Level.OK,
        "engine",
        f"process {engine['pid']}, {engine['mode']}, version {engine['version']}, started "
        f"{moment_words(engine['started_at'])}, config loaded {moment_words(engine.get('config_loaded_at'))}, "
        f"{engine['connections']} connections",
    )


def _warnings(path: Path, status: Json, config: Config) -> Iterator[str]:
    """What the engine warns of besides what is in the file, and that it is another version than this."""
    found = [text for text in status["warnings"] if text not in config.warnings]
    version = status["engine"]["version"]
    if version != VERSION:
        found.append(version_warning(version, VERSION, path))
    yield from dict.fromkeys(found)


def _living(downstream: dict[str, Any], config: Config) -> Finding:
    about = f"server {downstream['name']}"
    if downstream["state"] == "connected":
        speaks = f"{downstream['server_name'] or 'a server'}, protocol {downstream['protocol_version']}"
        return Finding(Level.OK, about, f"connected to {speaks} since {moment_words(downstream['since'])}")
    reason = f": {downstream['reason']}" if downstream["reason"] else ""
    tail = "".join(f"\n  {line}" for line in downstream["stderr_tail"])
    last_words = f"\nits last words:{tail}" if tail else ""
    level = Level.WARNING if downstream["state"] == "starting" else Level.PROBLEM
    return Finding(
        level, about, f"{downstream['state']}{reason} ({masked(downstream['reached_by'], config)}){last_words}"
    )


def _gate(downstream: dict[str, Any]) -> Iterator[Finding]:
    """What keeps calls from being sent to a server, besides its connection."""
    about, breaker = f"calls to {downstream['name']}", downstream["breaker"]
    if breaker["state"] != "closed":
        yield Finding(
            Level.PROBLEM,
            about,
            f"{breaker['failures']} answers in a row were lost, so since {moment_words(breaker['since'])} nothing is "
            f"sent but a probe, the next at {moment_words(breaker['next_probe_at'])}; last: {breaker['reason']}",
        )
    busy = f"{downstream['under_way']} of {downstream['max_concurrency']} places taken"
    queue = f"{downstream['queued']} of {downstream['max_queue']} queued"
    in_line = downstream.get("in_line", 0)  # an engine of an earlier version knows of none
    if in_line:
        queue += f", {in_line} of {downstream['max_queue']} in line behind others"
    retries = f"{downstream['retries_left']} retries left"
    is_full = max(downstream["queued"], in_line) >= max(1, downstream["max_queue"])
    level = Level.WARNING if is_full or not downstream["retries_left"] else Level.OK
    yield Finding(level, about, f"{busy}, {queue}, {retries}")


def _startable(spec: DownstreamSpec) -> Iterator[Finding]:
    """Without an engine all that can be said is whether the command exists."""
    about, transport = f"server {spec.name}", spec.transport
    if not isinstance(transport, StdioSpec):
        return
    path = transport.env.get("PATH", os.environ.get("PATH"))
    if shutil.which(transport.command, path=path) is None:
        yield Finding(
            Level.PROBLEM,
            about,
            f"there is no command {transport.command!r} on the PATH; install it, or write its absolute path",
        )


def _catalog(config: Config, *, living: bool) -> Iterator[Finding]:
    try:
        seen = last_seen(config)
    except HoldfastError as error:
        yield Finding(Level.PROBLEM, "tools", str(error))
        return
    found = seen.catalog.tools()
    per_server = Counter(tool.downstream for tool in found)
    counted = ", ".join(f"{server}: {count}" for server, count in sorted(per_server.items()))
    yield Finding(Level.OK, "tools", f"{len(found)} ({counted})" if found else "none seen yet")
    for entry in seen.catalog.set_aside():
        yield Finding(Level.PROBLEM, f"tool {entry.canonical}", f"set aside: {entry.reason}")
    for tool in found:
        for rule in tool.misfits:
            yield Finding(
                Level.WARNING,
                f"tool {tool.name}",
                f"rule {rule} does not fit its schema, so every call asks; correct its `when`",
            )
        if tool.settings.order is not None and leads_nowhere(tool.settings.order, tool.definition["inputSchema"]):
            yield Finding(
                Level.WARNING,
                f"tool {tool.name}",
                f"its schema names no argument at {tool.settings.order.by}, so all its calls run one after the other; "
                "correct `order`",
            )
        if tool.output_problem is not None:
            yield Finding(
                Level.WARNING,
                f"tool {tool.name}",
                f"its outputSchema is broken, so its results are not checked: {tool.output_problem}",
            )
    for about, text in refused_by_clients([tool.name for tool in found]):
        yield Finding(Level.WARNING, about, text)
    if not living:
        for server in seen.unseen:
            yield Finding(Level.WARNING, f"server {server}", "never connected as it is configured now")
