"""A run as its judge sees it: what the disk holds at the end, what the witness saw, what happened outside."""

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulation.ledger import Ledger, Sending
from simulation.offer import SKETCHES, Sketch, spec
from simulation.plan import Plan

from holdfast_store.model.values import Json

if TYPE_CHECKING:
    from simulation.world import World


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a call's row that its transaction kept. `was` is None for the insert."""

    moment: int
    instant: float
    was: str | None
    now: str
    fence_was: int
    fence: int
    owner_was: str | None
    owner: str | None
    kind: str | None
    outcome: str | None
    delivered: int
    updated_at: float
    not_before: float | None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one call. `row` is its row as it stands.

    `is_elsewhere`: its downstream is by now configured as another one, for good.
    """

    id: str
    row: dict[str, Any]
    sketch: Sketch
    steps: tuple[Step, ...]
    journal: tuple[dict[str, Any], ...]
    sendings: tuple[Sending, ...]
    approvals: tuple[dict[str, Any], ...]
    is_elsewhere: bool

    @property
    def state(self) -> str:
        return str(self.row["state"])

    @property
    def kind(self) -> str | None:
        kind: str | None = self.row["outcome_kind"]
        return kind

    @property
    def arguments(self) -> Json:
        arguments: Json = json.loads(self.row["arguments"])
        return arguments

    @property
    def was_asked(self) -> bool:
        """Whether its downstream ever asked for input."""
        return any(entry["event"] == "ask" for entry in self.journal)

    def event_of(self, step: Step) -> str | None:
        """By which event of the journal the step was taken."""
        return next((str(entry["event"]) for entry in self.journal if entry["moment"] > step.moment), None)

    def events_after(self, moment: int, *events: str) -> list[dict[str, Any]]:
        """Journal entries of these events that were written after `moment`."""
        return [entry for entry in self.journal if entry["event"] in events and entry["moment"] > moment]

    def state_at(self, moment: int) -> Step | None:
        """The last step before `moment`."""
        before = [step for step in self.steps if step.moment < moment]
        return before[-1] if before else None


@dataclass(frozen=True, slots=True)
class Facts:
    """A whole run."""

    stories: dict[str, Story]
    ledger: Ledger
    decisions: tuple[dict[str, Any], ...]
    plan: Plan

    def ended_before(self, owner: str | None, moment: int) -> bool:
        """Whether the engine that held a lease under this name had ended."""
        number = self.ledger.owners.get(owner or "")
        return number is not None and self.ledger.ended.get(number, moment) < moment


_JOURNAL = "SELECT j.*, w.moment FROM journal j JOIN journal_moments w ON w.seq = j.seq ORDER BY j.seq"


def gather(world: "World") -> Facts:
    database = world.database
    calls = _rows(database, "SELECT * FROM calls ORDER BY seq")
    steps = _grouped(_rows(database, "SELECT * FROM moves ORDER BY moment"), "call")
    journal = _rows(
        database, "SELECT j.*, w.moment FROM journal j JOIN journal_moments w ON w.seq = j.seq ORDER BY j.seq"
    )
    approvals = _rows(database, "SELECT * FROM approvals ORDER BY seq")
    verdicts = _grouped(_rows(database, "SELECT * FROM verdicts ORDER BY seq"), "approval")
    for approval in approvals:
        approval["verdicts"] = verdicts.get(approval["seq"], [])
    by_call = _grouped(journal, "call"), _grouped(approvals, "call")
    stories = {
        call["id"]: Story(
            id=call["id"],
            row=call,
            sketch=SKETCHES[call["original_name"]],
            steps=tuple(Step(**{k: v for k, v in step.items() if k != "call"}) for step in steps.get(call["id"], ())),
            journal=tuple(by_call[0].get(call["seq"], ())),
            sendings=tuple(each for each in world.ledger.sendings if each.call == call["id"]),
            approvals=tuple(by_call[1].get(call["seq"], ())),
            is_elsewhere=call["identity"] != spec(call["downstream"], world.generations[call["downstream"]]).identity,
        )
        for call in calls
    }
    decisions = _rows(database, "SELECT * FROM decisions ORDER BY moment")
    return Facts(stories, world.ledger, tuple(decisions), world.plan)


def _rows(database: sqlite3.Connection, statement: str) -> list[dict[str, Any]]:
    cursor = database.execute(statement)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _grouped(rows: list[dict[str, Any]], by: str) -> dict[Any, list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    return groups
