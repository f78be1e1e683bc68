"""What could be wrong with a store: who may use it, its disk, its log, its pages, and who is in the way."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from holdfast_server.cli import stored
from holdfast_server.cli.findings import Finding, Level
from holdfast_server.cli.output import moment_words
from holdfast_server.config import Config
from holdfast_server.mcp.payloads import iso
from holdfast_store.contract import Health
from holdfast_store.model.errors import HoldfastError
from holdfast_store.model.values import Json
from holdfast_store.open import store_path
from holdfast_store.sqlite.faults import DAMAGED
from holdfast_store.sqlite.holders import lock_holders

SPACE_BYTES = 128 * 1024 * 1024
"""With less than this left, a busy store may soon stand still: its write-ahead log alone can take half of it."""


def store_findings(config: Config, status: Json | None) -> Iterator[Finding]:
    """Everything about the store of `config`; `status` is what its engine says, where one lives. Changes nothing."""
    path = store_path(config.store_url)
    if not path.exists():
        yield Finding(Level.OK, "store", f"{path} is made when the engine first starts")
        return
    yield from _permissions(path)
    yield from _disk(path)
    yield from _writing(path, status)
    try:
        health = stored.health(config.store_url)
    except HoldfastError as error:
        yield Finding(Level.PROBLEM, "store", str(error))
        return
    if health is not None:
        yield from _content(health)


def _permissions(path: Path) -> Iterator[Finding]:
    files = [file for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))) if file.exists()]
    closed = " ".join(str(file) for file in files if not os.access(file, os.R_OK | os.W_OK))
    if closed:
        yield Finding(Level.PROBLEM, "store", f"this user may not write what the store is in; run chmod u+rw {closed}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield Finding(
            Level.PROBLEM,
            "store",
            f"{path.parent} cannot be written by this user, and the store keeps its log there; "
            f"run chmod u+wx {path.parent}",
        )


def _disk(path: Path) -> Iterator[Finding]:
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < SPACE_BYTES:
        yield Finding(
            Level.WARNING, "store", f"the disk of {path} has {free_bytes / 1_000_000:.0f} MB left; free some space"
        )


def _writing(path: Path, status: Json | None) -> Iterator[Finding]:
    """Whether the engine can write, and who holds the write lock although it is not the engine."""
    trouble = status["store"].get("trouble") if status is not None else None
    if trouble is not None and not trouble["over"]:
        yield Finding(Level.PROBLEM, "store", f"the engine's last write failed: {trouble['sentence']}")
    elif trouble is not None:
        when = moment_words(iso(trouble["at"]))
        sentence = f"the engine could not write at {when}, and has written since: {trouble['sentence']}"
        yield Finding(Level.WARNING, "store", sentence)
    engine = status["engine"]["pid"] if status is not None else None
    for pid in lock_holders(path):
        if pid != engine:
            yield Finding(
                Level.PROBLEM, "store", f"process {pid} holds the write lock of {path}; stop it, or let it finish"
            )


def _content(health: Health) -> Iterator[Finding]:
    if health.problems:
        yield from (Finding(Level.PROBLEM, "store", f"{health.location}: {problem}") for problem in health.problems)
        yield Finding(Level.PROBLEM, "store", f"{health.location}: {DAMAGED.cause}; {DAMAGED.mend}")
        return
    states = ", ".join(f"{count} {state.value}" for state, count in health.calls_by_state.items() if count)
    yield Finding(
        Level.OK,
        "store",
        f"{health.location}: {health.size_bytes} bytes, calls: {states or 'none'}, "
        f"{health.pending_approvals} pending approvals, {health.journal_entries} journal entries",
    )
