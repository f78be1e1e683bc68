"""The life of a call: one table, from which guards, diagrams and tests are derived.

A call is always in exactly one `State`. It moves only along a row of `TRANSITIONS`; the stores turn each row into
a guarded update (``WHERE state = source``), the docs draw the diagram from it, and one test walks all of it.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a call stands. Each comment says who moves it out."""

    QUEUED = "queued"  # admitted, nobody runs it: an engine claims it, or its deadline ends it
    RUNNING = "running"  # claimed with a lease, sent or about to be: its runner settles it, or recovery does
    WAITING_FOR_APPROVAL = "waiting_for_approval"  # parked: people's verdicts, an expiry or a cancel
    WAITING_FOR_INPUT = "waiting_for_input"  # the downstream asked the requester: answers, an expiry or a cancel
    IN_DOUBT = "in_doubt"  # sent, outcome unknown: an admin, or late evidence from that very attempt
    DONE = "done"  # terminal
    FAILED = "failed"  # terminal
    CANCELLED = "cancelled"  # terminal


class Event(StrEnum):
    """What moves a call. The journal records each under this name."""

    ADMIT = "admit"  # allowed, but nobody can run it yet
    START = "start"  # allowed and claimed in the same commit: attempt 1 is about to be sent
    PARK = "park"  # a person must approve first
    DENY = "deny"  # policy says no
    CLAIM = "claim"  # an engine takes the lease of the next attempt, before anything is sent
    SETTLE = "settle"  # the downstream answered with a result
    FAIL = "fail"  # the downstream answered with an error, or no attempt is left
    RETRY = "retry"  # another attempt follows after a pause
    LOSE = "lose"  # sent, and the answer is lost, or the downstream's own task that would tell can be watched no more
    ASK = "ask"  # the downstream wants input from the requester
    ANSWER = "answer"  # the requester gave it, for the next attempt
    CONTINUE = "continue"  # the requester gave it, and the attempt that asked goes on
    APPROVE = "approve"  # the quorum is reached
    REJECT = "reject"  # a person said no
    EXPIRE = "expire"  # nobody decided, answered or started it in time
    CANCEL = "cancel"  # the requester or an admin withdrew it
    RESOLVE_DONE = "resolve_done"  # an admin found out: it had its effect
    RESOLVE_FAILED = "resolve_failed"  # an admin found out: it had none, and shall not run again
    RESOLVE_RETRY = "resolve_retry"  # an admin found out: it had none, and shall run again
    EVIDENCE_DONE = "evidence_done"  # the late answer of the lost attempt arrived: a result
    EVIDENCE_FAILED = "evidence_failed"  # the late answer of the lost attempt arrived: an error


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the state machine.

    `source` is None where the call is new. `fenced` rows are valid only for the runner that holds the call's
    current attempt: the store compares the fence as well as the state.
    """

    event: Event
    source: State | None
    target: State
    fenced: bool = False


TRANSITIONS: tuple[Transition, ...] = (
    Transition(Event.ADMIT, None, State.QUEUED),
    Transition(Event.START, None, State.RUNNING),
    Transition(Event.PARK, None, State.WAITING_FOR_APPROVAL),
    Transition(Event.DENY, None, State.FAILED),
    Transition(Event.CLAIM, State.QUEUED, State.RUNNING),
    Transition(Event.DENY, State.QUEUED, State.FAILED),
    Transition(Event.FAIL, State.QUEUED, State.FAILED),
    Transition(Event.EXPIRE, State.QUEUED, State.FAILED),
    Transition(Event.PARK, State.QUEUED, State.WAITING_FOR_APPROVAL),
    Transition(Event.CANCEL, State.QUEUED, State.CANCELLED),
    Transition(Event.LOSE, State.QUEUED, State.IN_DOUBT, fenced=True),
    Transition(Event.SETTLE, State.RUNNING, State.DONE, fenced=True),
    Transition(Event.FAIL, State.RUNNING, State.FAILED, fenced=True),
    Transition(Event.RETRY, State.RUNNING, State.QUEUED, fenced=True),
    Transition(Event.LOSE, State.RUNNING, State.IN_DOUBT, fenced=True),
    Transition(Event.ASK, State.RUNNING, State.WAITING_FOR_INPUT, fenced=True),
    Transition(Event.CANCEL, State.RUNNING, State.CANCELLED, fenced=True),
    Transition(Event.APPROVE, State.WAITING_FOR_APPROVAL, State.QUEUED),
    Transition(Event.REJECT, State.WAITING_FOR_APPROVAL, State.FAILED),
    Transition(Event.DENY, State.WAITING_FOR_APPROVAL, State.FAILED),
    Transition(Event.FAIL, State.WAITING_FOR_APPROVAL, State.FAILED),
    Transition(Event.EXPIRE, State.WAITING_FOR_APPROVAL, State.FAILED),
    Transition(Event.CANCEL, State.WAITING_FOR_APPROVAL, State.CANCELLED),
    Transition(Event.ANSWER, State.WAITING_FOR_INPUT, State.QUEUED),
    Transition(Event.CONTINUE, State.WAITING_FOR_INPUT, State.RUNNING),
    Transition(Event.SETTLE, State.WAITING_FOR_INPUT, State.DONE, fenced=True),
    Transition(Event.FAIL, State.WAITING_FOR_INPUT, State.FAILED, fenced=True),
    Transition(Event.RETRY, State.WAITING_FOR_INPUT, State.QUEUED, fenced=True),
    Transition(Event.LOSE, State.WAITING_FOR_INPUT, State.IN_DOUBT, fenced=True),
    Transition(Event.EXPIRE, State.WAITING_FOR_INPUT, State.FAILED),
    Transition(Event.CANCEL, State.WAITING_FOR_INPUT, State.CANCELLED),
    Transition(Event.RESOLVE_DONE, State.IN_DOUBT, State.DONE),
    Transition(Event.RESOLVE_FAILED, State.IN_DOUBT, State.FAILED),
    Transition(Event.RESOLVE_RETRY, State.IN_DOUBT, State.QUEUED),
    Transition(Event.EVIDENCE_DONE, State.IN_DOUBT, State.DONE, fenced=True),
    Transition(Event.EVIDENCE_FAILED, State.IN_DOUBT, State.FAILED, fenced=True),
    Transition(Event.EVIDENCE_DONE, State.QUEUED, State.DONE, fenced=True),
    Transition(Event.EVIDENCE_FAILED, State.QUEUED, State.FAILED, fenced=True),
)

TERMINAL: frozenset[State] = frozenset(State) - {row.source for row in TRANSITIONS if row.source is not None}

IN_LINE: frozenset[State] = frozenset({State.QUEUED, State.RUNNING, State.WAITING_FOR_INPUT})
"""Where a call of a line stands in it: no other call of the line starts before it. Neither what is parked nor what is
in doubt does, since nobody knows how long that lasts."""

_BY_EDGE = {(row.event, row.source): row for row in TRANSITIONS}


def transition(event: Event, source: State | None) -> Transition | None:
    """The row that `event` takes from `source`, or None where the table has no such row."""
    return _BY_EDGE.get((event, source))


def diagram() -> str:
    """The table as a Mermaid state diagram, as printed in ``docs/architecture.md``."""
    lines = ["stateDiagram-v2"]
    for row in TRANSITIONS:
        source = "[*]" if row.source is None else row.source.value
        lines.append(f"    {source} --> {row.target.value}: {row.event.value}")
    lines.extend(f"    {state.value} --> [*]" for state in State if state in TERMINAL)
    return "\n".join(lines) + "\n"
