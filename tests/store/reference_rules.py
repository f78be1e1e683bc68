"""What the store must do, said a second time in plain dictionaries: the lifecycle, keys, quorum and retention.

Nothing here is taken from the product: where the two disagree, one of them is wrong.
"""

from typing import Any

Fields = dict[str, Any]
"""A call or an approval, field by field, as `dataclasses.asdict` shows one."""

LIFE: dict[str | None, dict[str, str]] = {
    None: {"admit": "queued", "start": "running", "park": "waiting_for_approval", "deny": "failed"},
    "queued": {
        "claim": "running",
        "park": "waiting_for_approval",
        "deny": "failed",
        "fail": "failed",
        "expire": "failed",
        "cancel": "cancelled",
        "lose": "in_doubt",
        "evidence_done": "done",
        "evidence_failed": "failed",
    },
    "running": {
        "settle": "done",
        "fail": "failed",
        "retry": "queued",
        "lose": "in_doubt",
        "ask": "waiting_for_input",
        "cancel": "cancelled",
    },
    "waiting_for_approval": {
        "approve": "queued",
        "reject": "failed",
        "deny": "failed",
        "fail": "failed",
        "expire": "failed",
        "cancel": "cancelled",
    },
    "waiting_for_input": {
        "answer": "queued",
        "continue": "running",
        "settle": "done",
        "fail": "failed",
        "retry": "queued",
        "lose": "in_doubt",
        "expire": "failed",
        "cancel": "cancelled",
    },
    "in_doubt": {
        "resolve_done": "done",
        "resolve_failed": "failed",
        "resolve_retry": "queued",
        "evidence_done": "done",
        "evidence_failed": "failed",
    },
    "done": {},
    "failed": {},
    "cancelled": {},
}
"""Where each event takes a call from each state; None is where it is new."""

MOVING = frozenset(event for events in LIFE.values() for event in events)

TERMINAL = frozenset(state for state, events in LIFE.items() if state is not None and not events)

BEGUN = ("running", "waiting_for_input")

IN_LINE = ("queued", *BEGUN)
"""Where a call keeps others of its line from being started."""

NEVER_SENT = ("unreachable", "denied", "rejected", "expired")
"""How a call ends that had no effect to protect: its key is free again soon."""


def needs_fence(event: str, state: str) -> bool:
    """Whether only the runner of the current attempt may do that: what an attempt brings about, and nothing else."""
    by_attempt = {"settle", "fail", "retry", "ask"}
    ends_it = (state in BEGUN and event in by_attempt) or (state, event) == ("running", "cancel")
    return ends_it or event == "lose" or event.startswith("evidence")


def earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def replayed(entries: list[Any]) -> tuple[str | None, int]:
    """State and fence that the journal alone tells; each entry must follow from those before it."""
    state: str | None = None
    fence = 0
    for entry in entries:
        if entry.event in MOVING:
            state = LIFE[state][entry.event]
            fence += entry.event in ("start", "claim")
        assert (entry.state, entry.attempt) == (state, fence), f"{entry} does not follow"
    return state, fence


def counts(need: Fields, verdict: Fields, requesters: tuple[str, ...]) -> bool:
    own = need["prevent_self_review"] and verdict["principal"] in requesters
    return not own and not need["roles"].isdisjoint(verdict["roles"])


def tally(approval: Fields) -> str:
    """What the verdicts of `approval` amount to."""
    needs, verdicts, requesters = approval["requirements"], approval["verdicts"], approval["requesters"]
    if any(v["kind"] == "reject" and counts(need, v, requesters) for v in verdicts for need in needs):
        return "rejected"
    for need in needs:
        approving = {v["principal"] for v in verdicts if v["kind"] == "approve" and counts(need, v, requesters)}
        if len(approving) < need["min_verdicts"]:
            return "pending"
    return "approved"
