"""A call's journal in words: one line per entry, as `calls show` prints it.

 +0.0s  asked for, waits for approval   by claude-desktop   rules: refunds-over-100
+3m12s  approved                        by anna             "checked with the customer"
+3m12s  attempt 1 begins                by engine
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast_server.cli.output import one_line, printable, seconds_of
from holdfast_store.model.lifecycle import Event

EVENT_WORDS: Mapping[Event, str] = {
    Event.ADMIT: "asked for, queued",
    Event.START: "asked for, attempt {attempt} begins",
    Event.PARK: "waits for approval",
    Event.DENY: "denied by policy",
    Event.CLAIM: "attempt {attempt} begins",
    Event.SETTLE: "done",
    Event.FAIL: "failed",
    Event.RETRY: "attempt {attempt} ended without success, another follows",
    Event.LOSE: "answer lost: in doubt",
    Event.ASK: "the downstream asks for input",
    Event.ANSWER: "input given",
    Event.CONTINUE: "input given, the attempt goes on",
    Event.APPROVE: "approved, queued",
    Event.REJECT: "rejected",
    Event.EXPIRE: "ran out of time",
    Event.CANCEL: "cancelled",
    Event.RESOLVE_DONE: "resolved: it was done",
    Event.RESOLVE_FAILED: "resolved: it failed",
    Event.RESOLVE_RETRY: "resolved: try again",
    Event.EVIDENCE_DONE: "the late answer arrived: done",
    Event.EVIDENCE_FAILED: "the late answer arrived: failed",
}
"""What the journal's events mean."""

NOTE_WORDS: Mapping[str, str] = {
    "waits_for_a_place": "waits for a free place at its server",
    "next_in_line": "its turn in its line has come",
    "breaker_open": "waits: its server is left alone for a while",
    "breaker_probe": "goes first, as a probe of its server",
}
"""Notes, which move nothing, where their own names do not say it all."""

LONGEST_DETAIL = 200


def elapsed(span_s: float) -> str:
    """Time since the first entry: `+0.04s`, `+12.3s`, `+3m12s`, `+2h05m`, `+1d03h`."""
    span_s = max(0.0, span_s)
    if span_s < 10:
        return f"+{span_s:.2f}s"
    if span_s < 60:
        return f"+{span_s:.1f}s"
    minutes, seconds = divmod(int(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"+{days}d{hours:02}h"
    if hours:
        return f"+{hours}h{minutes:02}m"
    return f"+{minutes}m{seconds:02}s"


def event_words(event: str, attempt: int) -> str:
    """The event as a person would say it."""
    try:
        words = EVENT_WORDS[Event(event)]
    except ValueError:
        return NOTE_WORDS.get(event) or event.replace("_", " ")
    return words.format(attempt=attempt)


def detail_words(detail: Mapping[str, Any]) -> str:
    """The entry's detail on one line, `name: value` by name, cut where it is long."""
    shown = []
    for name, value in detail.items():
        if value in (None, "", [], {}):
            continue
        text = value if isinstance(value, str) else ", ".join(value) if _is_texts(value) else one_line(value)
        shown.append(f"{name}: {text}")
    words = " ".join(printable("; ".join(shown)).split())
    return words if len(words) <= LONGEST_DETAIL else words[: LONGEST_DETAIL - 3] + "..."


def timeline(entries: Sequence[Mapping[str, Any]]) -> str:
    """One line per entry, oldest first; times count from the first."""
    if not entries:
        return "(the journal of this call is no longer kept)"
    began = seconds_of(entries[0]["at"])
    rows = [
        (
            elapsed(seconds_of(entry["at"]) - began),
            event_words(entry["event"], entry["attempt"]),
            f"by {printable(entry['actor'])}",
            detail_words(entry.get("detail", {})),
        )
        for entry in entries
    ]
    edges = [max(len(row[position]) for row in rows) for position in range(3)]
    return "\n".join(
        f"{when:>{edges[0]}}  {event:<{edges[1]}}  {actor:<{edges[2]}}  {detail}".rstrip()
        for when, event, actor, detail in rows
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
