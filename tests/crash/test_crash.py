"""The short form of `make crash`; and that its judge would have told, had anything been wrong."""

import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash.evidence import read, store_of
from crash.notes import CLIENTS, KILLS, VERDICTS, Notes
from crash.report import KINDS, Report
from crash.storm import INTERRUPTED, Plan, blow, judged
from support.ledger import Ledger
from support.processes import Processes

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PLAN = Plan(kills=20, seed=20)


@dataclass(frozen=True)
class Blown:
    """A storm that is over."""

    folder: Path
    report: Report


@pytest.fixture(scope="module")
def blown() -> Iterator[Blown]:
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        report, _ = blow(Path(folder), PLAN)
        yield Blown(Path(folder), report)


@pytest.fixture
def evidence(blown: Blown, tmp_path: Path) -> Path:
    """A copy of what the storm left, to be tampered with: of the stdio house, the folder."""
    shutil.copytree(blown.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    return tmp_path / "copy" / "stdio"


def test_twenty_kills_under_load_lose_nothing_repeat_nothing_and_hide_nothing(blown: Blown) -> None:
    report = blown.report
    assert report.broken == [], report.text()
    assert report.kills.total() == PLAN.kills
    assert all(report.kills[kind] for kind in KINDS)
    assert report.effects
    assert report.verdicts
    assert report.recovery_s["engine"]
    assert report.recovery_s["downstream"]


def test_the_report_is_one_json_object_and_says_the_same_when_it_is_judged_again(blown: Blown) -> None:
    assert json.loads(json.dumps(blown.report.figures())) == judged(blown.folder).figures()


def test_ctrl_c_ends_a_storm_with_the_report_so_far(tmp_path: Path, processes: Processes) -> None:
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        command = [sys.executable, "-m", "crash.storm", "--kills", "1000", "--seed", "1", "--keep", folder]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        running = processes.start(command, environment=environment)
        running.wait_for(r"[1-9]\d* of 1000 kills", 120)
        os.kill(running.pid, signal.SIGINT)
        code = running.wait(240)
        assert "BROKEN: nothing" in running.stdout, running.stdout + running.stderr
        assert code == INTERRUPTED
        assert judged(Path(folder)).kills.total() > 0


def an_effect_again(house: Path) -> None:
    """A downstream was sent a call twice."""
    ledger = Ledger(house / "ledger.jsonl")
    done = next(effect for effect in ledger.effects() if effect.done)
    ledger.begin("again", done.tool, done.arguments)
    ledger.done("again")


def an_effect_unknown(house: Path) -> None:
    """A downstream was sent what no store knows of."""
    ledger = Ledger(house / "ledger.jsonl")
    ledger.begin("unknown", "write", {"n": 999})
    ledger.done("unknown")


def an_effect_unfinished(house: Path) -> None:
    """A call was answered whose effect was cut off in the middle."""
    path = house / "ledger.jsonl"
    done = next(effect for effect in Ledger(path).effects() if effect.done)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if not (json.loads(x)["line"] == "done" and done.id in x)))


def an_effect_missing(house: Path) -> None:
    """A call is done that nobody ever did."""
    path = house / "ledger.jsonl"
    done = next(effect for effect in Ledger(path).effects() if effect.done and effect.tool == "write")
    path.write_text("".join(x for x in path.read_text().splitlines(keepends=True) if done.id not in x))


def a_call_forgotten(house: Path) -> None:
    """A store lost a call that a client was told of."""
    with closing(sqlite3.connect(store_of(house))) as store, store:
        (seq,) = store.execute("SELECT seq FROM calls WHERE key IS NOT NULL AND state = 'done'").fetchone()
        for table in ("journal", "approvals", "calls"):
            store.execute(f"DELETE FROM {table} WHERE {'seq' if table == 'calls' else 'call'} = ?", (seq,))


def a_call_stuck(house: Path) -> None:
    """A call was never taken up again."""
    _move(house, "done", "running", ended=False)


def a_call_revived(house: Path) -> None:
    """A call left its end, and was done once more."""
    with closing(sqlite3.connect(store_of(house))) as store, store:
        (seq,) = store.execute("SELECT seq FROM calls WHERE state = 'done'").fetchone()
        for event, state in (("claim", "running"), ("settle", "done")):
            store.execute(
                "INSERT INTO journal (call, at, event, state, attempt, actor) VALUES (?, 0, ?, ?, 2, 'planted')",
                (seq, event, state),
            )


def a_state_without_a_journal(house: Path) -> None:
    """A call was moved past the journal."""
    _move(house, "failed", "cancelled", ended=True)


def a_doubt_without_a_kill(house: Path) -> None:
    """A call is in doubt, and nobody was killed."""
    path = house / KILLS
    path.write_text("".join(f"{json.dumps({**note, 'at': 0})}\n" for note in Notes(path).read()))


def a_doubt_denied(house: Path) -> None:
    """A call that began and lost its answer is said to have failed."""
    begun = {effect.arguments["n"] for effect in Ledger(house / "ledger.jsonl").effects() if effect.tool == "write"}
    doubtful = [call.id for call in read(house).calls if call.state == "in_doubt" and call.n in begun]
    with closing(sqlite3.connect(store_of(house))) as store, store:
        store.execute(
            "UPDATE calls SET state = 'failed', ended_at = 0, outcome_kind = 'error', outcome = '{}' WHERE id = ?",
            doubtful[:1],
        )


def a_rejection_ignored(house: Path) -> None:
    """What a person rejected was run all the same."""
    rejected = [note for note in Notes(house / VERDICTS).read() if note.get("verdict") == "reject"]
    call_id = next(note["decided"] for note in rejected if note["acknowledged"])
    n = next(call.n for call in read(house).calls if call.id == call_id)
    ledger = Ledger(house / "ledger.jsonl")
    ledger.begin("rejected", "destroy", {"n": n})
    ledger.done("rejected")


def an_answer_that_never_came(house: Path) -> None:
    """A client waited in vain."""
    Notes(house / CLIENTS / "1.jsonl").write(unanswered=1_000_001)


def an_error_unforeseen(house: Path) -> None:
    """An engine stumbled over itself."""
    with (house / "engine.log").open("a") as log:
        log.write("Traceback (most recent call last):\n")


def _move(house: Path, source: str, target: str, *, ended: bool) -> None:
    with closing(sqlite3.connect(store_of(house))) as store, store:
        (seq,) = store.execute("SELECT seq FROM calls WHERE state = ?", (source,)).fetchone()
        cleared = "" if ended else ", ended_at = NULL, outcome_kind = NULL, outcome = NULL"
        store.execute(f"UPDATE calls SET state = ?{cleared} WHERE seq = ?", (target, seq))


BUGS: dict[Callable[[Path], None], str] = {
    an_effect_again: "effects_twice",
    an_effect_unknown: "effect_began_and_call_says_otherwise",
    an_effect_unfinished: "effect_began_and_call_says_otherwise",
    an_effect_missing: "done_without_effect",
    a_call_forgotten: "acknowledged_and_lost",
    a_call_stuck: "stuck",
    a_call_revived: "terminal_state_left",
    a_state_without_a_journal: "state_unlike_the_journal",
    a_doubt_without_a_kill: "in_doubt_without_a_kill",
    a_doubt_denied: "effect_began_and_call_says_otherwise",
    a_rejection_ignored: "rejected_and_not_failed",
    an_answer_that_never_came: "stuck",
    an_error_unforeseen: "unforeseen_errors",
}


@pytest.mark.parametrize(("plant", "figure"), BUGS.items(), ids=[plant.__name__ for plant in BUGS])
def test_a_planted_bug_is_told(evidence: Path, plant: Callable[[Path], None], figure: str) -> None:
    plant(evidence)
    report = judged(evidence.parent)
    assert report.figures()["must_be_zero"][figure] > 0, report.text()
    assert report.broken
