"""Whether the promises held: what clients were told, what the store says, and what the ledger proves."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from mcp import Client

from holdfast_store.contract import CallFilter, Store
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call
from holdfast_store.open import open_store_for_reading

if TYPE_CHECKING:
    from crash.storm import Told
    from support.workspace import Workspace

SETTLE_S = 30.0
PAGE = 500
CLOCK_GRAIN_S = 0.05  # a kill is timed just before the signal: a commit that was under way may still land
UNSETTLED = frozenset({State.QUEUED, State.RUNNING})


@dataclass
class Report:
    """The figures of one storm. `broken` holds a sentence for every broken promise."""

    kills: int = 0
    calls: int = 0
    answers: int = 0
    restarts_seen: int = 0
    effects: int = 0
    parked: int = 0
    in_doubt: int = 0
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    unjustified_doubts: int = 0
    hidden_losses: int = 0
    recovery_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Everything as JSON."""
        slowest = sorted(self.recovery_s)
        return {
            "kills": self.kills,
            "calls": self.calls,
            "answers": self.answers,
            "requests_cut_by_a_kill": self.restarts_seen,
            "effects": self.effects,
            "parked": self.parked,
            "in_doubt": self.in_doubt,
            "acknowledged_and_lost": self.lost,
            "effects_twice": self.duplicated,
            "stuck": self.stuck,
            "in_doubt_without_a_kill": self.unjustified_doubts,
            "lost_without_a_doubt": self.hidden_losses,
            "recovery_median_s": round(statistics.median(slowest), 3) if slowest else None,
            "recovery_longest_s": round(slowest[-1], 3) if slowest else None,
            "broken": self.broken,
        }

    def text(self) -> str:
        """The figures for people, then the verdict."""
        lines = [f"{name.replace('_', ' '):<26}{value}" for name, value in self.figures().items() if name != "broken"]
        return "\n".join([*lines, *(f"BROKEN: {sentence}" for sentence in self.broken or ["nothing"])])


async def judge(workspace: Workspace, told: Told, killed_at: list[float], recovery_s: list[float]) -> Report:
    """Let the store settle, then hold every promise against it."""
    async with Client(workspace.server(), cache=None) as client:
        await client.list_tools()
        store = await _open(workspace)
        try:
            calls = await _settled(store)
            report = Report(len(killed_at), len(calls), told.answers, told.restarts_seen, recovery_s=recovery_s)
            _judge_effects(report, workspace, calls)
            _judge_what_was_told(report, told, calls)
            await _judge_doubts(report, store, calls, killed_at)
        finally:
            await store.close()
    report.parked = sum(call.state is State.WAITING_FOR_APPROVAL for call in calls)
    return report


async def _open(workspace: Workspace) -> Store:
    (path,) = workspace.state_home.glob("holdfast/*/state.db")
    return await open_store_for_reading(f"sqlite://{path}")


async def _settled(store: Store) -> list[Call]:
    """Every call, once none is queued or running any more, or `SETTLE_S` have passed."""
    with anyio.move_on_after(SETTLE_S):
        while (await store.list_calls(CallFilter(states=UNSETTLED), 1)).items:
            await anyio.sleep(0.05)
    calls: list[Call] = []
    cursor: str | None = None
    while True:
        page = await store.list_calls(CallFilter(), PAGE, cursor)
        calls.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            return calls


def _judge_effects(report: Report, workspace: Workspace, calls: list[Call]) -> None:
    effects = workspace.ledger.effects()
    report.effects = len(effects)
    times = Counter(effect.arguments["n"] for effect in effects)
    twice = [n for n, count in times.items() if count > 1]
    report.duplicated = len(twice)
    if twice:
        report.broken.append(f"effects that happened twice: {twice}")
    by_n = {call.arguments["n"]: call for call in calls if call.tool != "ledger__read"}
    for effect in effects:
        call = by_n.get(effect.arguments["n"])
        if call is None or call.state not in (State.DONE, State.IN_DOUBT):
            report.hidden_losses += 1
            state = call.state.value if call is not None else "unknown to the store"
            report.broken.append(f"effect {effect.arguments['n']} began, and its call is {state}")


def _judge_what_was_told(report: Report, told: Told, calls: list[Call]) -> None:
    by_id = {call.id: call for call in calls}
    gone = sorted(call_id for call_id in told.acknowledged if call_id not in by_id)
    report.lost = len(gone)
    if gone:
        report.broken.append(f"calls that a client was told of, and that are gone: {gone}")
    for n, call_id in told.done.items():
        found = by_id.get(call_id)
        if found is not None and found.state is not State.DONE:
            report.broken.append(f"call {n} was answered as done and is {found.state.value}")
    stuck = [call.id for call in calls if call.state in UNSETTLED]
    report.stuck = len(stuck)
    if stuck:
        report.broken.append(f"calls that never settled: {stuck}")


async def _judge_doubts(report: Report, store: Store, calls: list[Call], killed_at: list[float]) -> None:
    for call in calls:
        if call.state is not State.IN_DOUBT:
            continue
        report.in_doubt += 1
        entries = await store.journal(call.id)
        claimed = max(entry.at for entry in entries if entry.event in ("start", "claim"))
        lost = max(entry.at for entry in entries if entry.event == "lose")
        if not any(claimed <= at + CLOCK_GRAIN_S and at <= lost for at in killed_at):
            report.unjustified_doubts += 1
            report.broken.append(f"call {call.id} is in doubt, and no kill lies between its claim and its loss")
