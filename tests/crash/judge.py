"""Whether the promises held: what people and clients were told, what the store says, and what the ledger proves.

A pure function of the evidence. The rules about states are spelt out here once more, on purpose: the judge must not
believe the code that it judges.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from crash.evidence import Evidence, StoredCall
from crash.report import Report
from support.ledger import Effect

TERMINAL = frozenset({"done", "failed", "cancelled"})
UNSETTLED = frozenset({"queued", "running", "waiting_for_approval", "waiting_for_input"})
CLAIMS = frozenset({"start", "claim"})

AFTER_AN_EFFECT = {"ledger__fail": frozenset({"failed", "in_doubt"})}
"""How a call of a tool may stand that had its effect; other tools: done, or in doubt."""
DONE_OR_IN_DOUBT = frozenset({"done", "in_doubt"})

CLOCK_GRAIN_S = 0.05
"""A kill is timed just before the signal: a commit that was under way may still land."""

NAMED = 5
"""So many offenders are named of each kind."""


def judge(evidence: Evidence) -> Report:
    """Hold every promise against the evidence of one house."""
    report = Report()
    _count(report, evidence)
    _judge_effects(report, evidence)
    _judge_what_was_told(report, evidence)
    _judge_verdicts(report, evidence)
    _judge_journal(report, evidence)
    _judge_doubts(report, evidence)
    report.unforeseen += evidence.tracebacks
    if evidence.tracebacks:
        report.broken.append(f"{evidence.house}: the engine's log has {evidence.tracebacks} tracebacks")
    return report


def _count(report: Report, evidence: Evidence) -> None:
    for note in evidence.kills:
        if "killed" in note:
            report.kills[note["killed"]] += 1
        else:
            report.recovery_s[note["recovered"]].append(note["after_s"])
    for note in evidence.told:
        report.requests += "asked" in note
        report.answers += "told" in note
        report.cut += "cut" in note
        report.reconnects += "reconnects" in note
        report.cancelled += note.get("status") == "cancelled"
    report.calls = len(evidence.calls)
    report.effects = len(evidence.effects)
    report.verdicts = sum(note.get("acknowledged", False) for note in evidence.verdicts)
    report.in_doubt = sum(call.state == "in_doubt" for call in evidence.calls)


def _judge_effects(report: Report, evidence: Evidence) -> None:
    times = Counter(effect.arguments["n"] for effect in evidence.effects)
    twice = sorted(n for n, count in times.items() if count > 1)
    report.duplicated += len(twice)
    _tell(report, evidence, "effects that happened twice", (str(n) for n in twice))

    calls = _by_number(evidence.calls)
    hidden = [wrong for effect in evidence.effects if (wrong := _hidden(effect, calls[effect.arguments["n"]]))]
    report.hidden += len(hidden)
    _tell(report, evidence, "effects whose call says otherwise", hidden)

    done = {effect.arguments["n"] for effect in evidence.effects if effect.done}
    writes = (call for call in evidence.calls if call.state == "done" and call.tool != "ledger__read")
    invented = [f"{call.n}" for call in writes if call.n not in done]
    report.invented += len(invented)
    _tell(report, evidence, "calls that are done and had no effect", invented)


def _hidden(effect: Effect, calls: list[StoredCall]) -> str | None:
    """What is wrong with the record of an effect; None where nothing is."""
    n = effect.arguments["n"]
    allowed = AFTER_AN_EFFECT.get(f"ledger__{effect.tool}", DONE_OR_IN_DOUBT)
    states = [call.state for call in calls]
    if not any(state in allowed for state in states):
        return f"{n} began, and its call is {' and '.join(states) or 'unknown to the store'}"
    if not effect.done and "in_doubt" not in states:
        return f"{n} began and was never finished, and its call is {' and '.join(states)}"
    return None


def _judge_what_was_told(report: Report, evidence: Evidence) -> None:
    by_id = {call.id: call for call in evidence.calls}
    keyed = {
        note["asked"]: note["keyed"] or note["tool"] != "ledger__read" for note in evidence.told if "asked" in note
    }
    lost, left = set(), set()
    for note in evidence.told:
        if note.get("id") is None:
            continue
        call = by_id.get(note["id"])
        if call is None and keyed[note["told"]]:  # of a read without a key no record is promised
            lost.add(note["id"])
        elif call is not None and note["status"] in TERMINAL and call.state != note["status"]:
            left.add(f"{call.id} was {note['status']} and is {call.state}")
    report.lost += len(lost)
    report.terminal_left += len(left)
    _tell(report, evidence, "calls that a client was told of, and that are gone", sorted(lost))
    _tell(report, evidence, "calls that a client knows to have ended, and that stand otherwise", sorted(left))

    stuck = [f"{call.id} ({call.state})" for call in evidence.calls if call.state in UNSETTLED]
    unanswered = [f"{note['unanswered']} (no answer)" for note in evidence.told if "unanswered" in note]
    report.stuck += len(stuck) + len(unanswered)
    _tell(report, evidence, "calls that never settled", [*stuck, *unanswered])


def _judge_verdicts(report: Report, evidence: Evidence) -> None:
    by_id = {call.id: call for call in evidence.calls}
    effects = {effect.arguments["n"] for effect in evidence.effects}
    lost, ignored = set(), set()
    for note in evidence.verdicts:
        if not note.get("acknowledged"):
            continue
        call = by_id.get(note["decided"])
        if call is None:
            lost.add(note["decided"])
        elif note["verdict"] == "reject" and (call.state != "failed" or call.n in effects):
            ignored.add(f"{call.id} was rejected and is {call.state}")
    report.lost += len(lost)
    report.ignored += len(ignored)
    _tell(report, evidence, "calls that were decided, and that are gone", sorted(lost))
    _tell(report, evidence, "verdicts that did not count", sorted(ignored))


def _judge_journal(report: Report, evidence: Evidence) -> None:
    """The journal must end where the call stands, and must not go on behind an end."""
    left, forged = [], []
    for call in evidence.calls:
        states = [entry.state for entry in call.journal]
        ended = next((at for at, state in enumerate(states) if state in TERMINAL), len(states))
        if any(state != states[ended] for state in states[ended:]):
            left.append(f"{call.id}: {' '.join(states)}")
        if not states or states[-1] != call.state:
            forged.append(f"{call.id} is {call.state}, and its journal says {states[-1] if states else 'nothing'}")
    report.terminal_left += len(left)
    report.forged += len(forged)
    _tell(report, evidence, "calls that left a terminal state", left)
    _tell(report, evidence, "calls that stand otherwise than their journal says", forged)


def _judge_doubts(report: Report, evidence: Evidence) -> None:
    """In doubt is only what was claimed when the engine, or its downstream, was killed."""
    killed_at = [note["at"] for note in evidence.kills if note.get("killed") in ("engine", "downstream")]
    unjustified = []
    for call in evidence.calls:
        if call.state == "in_doubt":
            claimed = max((entry.at for entry in call.journal if entry.event in CLAIMS), default=float("inf"))
            lost = max((entry.at for entry in call.journal if entry.event == "lose"), default=float("-inf"))
            if not any(claimed <= at + CLOCK_GRAIN_S and at <= lost for at in killed_at):
                unjustified.append(call.id)
    report.unjustified += len(unjustified)
    _tell(report, evidence, "calls in doubt without a kill between claim and loss", unjustified)


def _by_number(calls: Iterable[StoredCall]) -> dict[int, list[StoredCall]]:
    """The calls by the effect that they ask for: one each, but nothing here relies on that."""
    found: dict[int, list[StoredCall]] = defaultdict(list)
    for call in calls:
        found[call.n].append(call)
    return found


def _tell(report: Report, evidence: Evidence, what: str, found: Iterable[str]) -> None:
    offenders = list(found)
    if offenders:
        more = f", and {len(offenders) - NAMED} more" if len(offenders) > NAMED else ""
        report.broken.append(f"{evidence.house}: {what}: {'; '.join(offenders[:NAMED])}{more}")
