"""All that is known of one house after a storm, read from its folder: files alone, and none of Holdfast's own code.

The store is read with plain SQL, so that what writes it and what judges it have nothing in common.
"""

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash.notes import CLIENTS, KILLS, VERDICTS, Note, Notes
from support.ledger import Effect, Ledger


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    event: str
    state: str
    attempt: int
    at: float


@dataclass(frozen=True)
class StoredCall:
    """A call as the store has it, and all that the journal says of it."""

    id: str
    n: int
    tool: str
    state: str
    journal: tuple[Entry, ...]


@dataclass(frozen=True)
class Evidence:
    """What the ledger, the store, the clients, the approver and the killer say of one house.

    `tracebacks`: errors in the engines' logs that nobody foresaw.
    """

    house: str
    effects: list[Effect]
    calls: list[StoredCall]
    told: list[Note]
    verdicts: list[Note]
    kills: list[Note]
    tracebacks: int = 0


def read(folder: Path) -> Evidence:
    """The evidence in the folder of a house, whose engine must be dead."""
    told = [note for path in sorted((folder / CLIENTS).glob("*.jsonl")) for note in Notes(path).read()]
    return Evidence(
        house=folder.name,
        effects=Ledger(folder / "ledger.jsonl").effects(),
        calls=_calls(store_of(folder)),
        told=told,
        verdicts=Notes(folder / VERDICTS).read(),
        kills=Notes(folder / KILLS).read(),
        tracebacks=sum(log.read_text(errors="replace").count("Traceback (") for log in _engine_logs(folder)),
    )


def store_of(folder: Path) -> Path:
    """The store of the house's engine."""
    (path,) = folder.glob("state/holdfast/*/state.db")
    return path


def _engine_logs(folder: Path) -> list[Path]:
    return [*folder.glob("engine.log"), *folder.glob("state/holdfast/*/engine.log*")]


def _calls(path: Path) -> list[StoredCall]:
    with closing(sqlite3.connect(path)) as store:
        journal: dict[int, list[Entry]] = defaultdict(list)
        for call, *entry in store.execute("SELECT call, event, state, attempt, at FROM journal ORDER BY seq"):
            journal[call].append(Entry(*entry))
        rows = store.execute("SELECT seq, id, arguments, tool, state FROM calls ORDER BY seq").fetchall()
    return [_call(journal[seq], *row) for seq, *row in rows]


def _call(journal: list[Entry], call_id: str, arguments: str, tool: str, state: str) -> StoredCall:
    values: dict[str, Any] = json.loads(arguments)
    return StoredCall(call_id, values["n"], tool, state, tuple(journal))
