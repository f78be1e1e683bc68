"""The judge of "at most once": what a downstream wrote down, synced to disk, before and after each effect."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect of a tool. `done` is False where the process ended between its two lines."""

    id: str
    tool: str
    arguments: dict[str, Any]
    pid: int
    begun_at: float
    done: bool


class Ledger:
    """An append-only file of JSON lines. Each line is one write of its own, synced before `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: dict[str, Any]) -> None:
        """Append `line` and sync it; lines of several processes never mix."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def begin(self, effect: str, tool: str, arguments: dict[str, Any]) -> None:
        self.write(
            {
                "line": "begin",
                "effect": effect,
                "tool": tool,
                "arguments": arguments,
                "pid": os.getpid(),
                "at": time.time(),
            }
        )

    def done(self, effect: str) -> None:
        self.write({"line": "done", "effect": effect, "at": time.time()})

    def overlaps(self, tool: str, by: str | None = None) -> list[tuple[Effect, Effect]]:
        """Pairs of effects of `tool`, with the same argument `by`, of which one began before the other was done."""
        effects = {effect.id: effect for effect in self.effects(tool)}
        under_way: dict[str, Effect] = {}
        found: list[tuple[Effect, Effect]] = []
        for text in self.path.read_text().splitlines():
            line = json.loads(text)
            effect = effects.get(line["effect"])
            if effect is None or line["line"] == "done":
                under_way.pop(line["effect"], None)
                continue
            alike = [e for e in under_way.values() if by is None or e.arguments.get(by) == effect.arguments.get(by)]
            found.extend((earlier, effect) for earlier in alike if earlier.pid == effect.pid)
            under_way[effect.id] = effect
        return found

    def effects(self, tool: str | None = None) -> list[Effect]:
        """Every effect begun so far, oldest first; of one `tool` where it is named. A missing file has none."""
        if not self.path.exists():
            return []
        lines = [json.loads(text) for text in self.path.read_text().splitlines()]
        finished = {line["effect"] for line in lines if line["line"] == "done"}
        return [
            Effect(
                id=line["effect"],
                tool=line["tool"],
                arguments=line["arguments"],
                pid=line["pid"],
                begun_at=line["at"],
                done=line["effect"] in finished,
            )
            for line in lines
            if line["line"] == "begin" and (tool is None or line["tool"] == tool)
        ]
