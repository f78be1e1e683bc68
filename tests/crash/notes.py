"""What a storm writes down as it goes: files of JSON lines that survive the death of whoever writes them.

In the folder of each house, beside its ledger and its store:

    clients/N.jsonl    {"asked": n, "tool", "arguments", "keyed"}    before a request goes out
                       {"told": n, "id", "status"}                   of every answer, "id" null for what was refused
                       {"cut": n}                                    the engine died under the request
                       {"over": n}                                   nothing more is asked about it
                       {"unanswered": n}                             given up after `client.ANSWER_S` seconds
                       {"started": pid}, {"reconnects": why}
    verdicts.jsonl     {"decided": call id, "verdict", "acknowledged"}
    kills.jsonl        {"killed": kind, "pid"} and, where it was measured, {"recovered": kind, "after_s"}

Every line has `at`, in seconds since the epoch.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

Note = dict[str, Any]

CLIENTS = "clients"
VERDICTS = "verdicts.jsonl"
KILLS = "kills.jsonl"


class Notes:
    """One file, written by one process at a time. A line that a death cut short is no note, and spoils no other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **fields: Any) -> Note:
        """Append a note, in one write; from then on it outlives this process."""
        note = {**fields, "at": time.time()}
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, b"\n" + json.dumps(note).encode() + b"\n")
        finally:
            os.close(descriptor)
        return note

    def read(self) -> list[Note]:
        """Every note so far; none where there is no file."""
        return Tail(self.path).new()


class Tail:
    """Reads what is added to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Note]:
        """The notes that were completed since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [note for line in whole.splitlines() if (note := _parsed(line)) is not None]


def _parsed(line: bytes) -> Note | None:
    try:
        note = json.loads(line)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None
