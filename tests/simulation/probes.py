"""What a run came through: rare events and moves of calls, counted. A state that is never reached proves nothing.

In the manner of the probes that FoundationDB's simulation reports ("rare-event probes"): over enough seeds each of them
must have happened, else the generator has lost its way to what it was made for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from holdfast_store.model.lifecycle import TRANSITIONS


class Rare(StrEnum):
    """What a run may come through. Each must happen now and then."""

    CRASH = "an engine crashes"
    CRASH_AFTER_COMMIT = "an engine crashes right after a commit"
    CRASH_AFTER_SEND = "an engine crashes right after a request was written"
    CRASH_WHILE_ASKED = "an engine crashes while a question is open"
    STOP = "an engine stops in order"
    CUT = "a connection is cut"
    DEATH = "a downstream dies"
    NO_CONNECTION = "a downstream cannot be connected"
    OTHER_IDENTITY = "a downstream is configured as another one"
    OTHER_DEFINITION = "a downstream defines its tools anew"
    OTHER_POLICY = "an engine starts with a stern policy"
    CLOCK_SET = "the wall clock is set"
    SLOW_DISK = "the disk takes its time"
    DISK_FAULT = "the disk fails"
    HANG = "a downstream takes long"
    ERROR = "a downstream answers with an error"
    REQUEST_VANISHES = "a request arrives nowhere"
    ANSWER_LOST = "an answer is lost on its way"
    LATE_ANSWER = "an answer comes after its attempt was given up"
    KNOWN_BY_KEY = "a downstream knows a request by its key"
    CLIENT_LEAVES = "a client gives up and says so"
    CLIENT_FALLS_SILENT = "a client gives up and says nothing"
    CANCEL = "a client cancels its call"
    RESUME = "a client resumes its call"
    VOTES_RACE = "several people decide at once"
    OVERLOADED = "a call is turned away: no room"
    BREAKER_OPEN = "a call is turned away: the breaker is open"
    BREAKER_OPENS = "a breaker opens"
    PROBE_SENT = "a probe is sent through an open breaker"
    ALL_PLACES_TAKEN = "every place at a downstream is taken"
    RETRY_REFUSED = "the retry budget is used up"
    DEADLINE_GIVEN = "a call has a deadline"
    DEADLINE_PASSED = "a deadline passes before the call is sent"
    ASKED_BY_ROUND = "a downstream answers by asking for input"
    ASKED_WITHIN = "a downstream asks in the midst of an attempt"
    ASKED_BY_TASK = "a downstream's task asks for input"
    ASKS_NOTHING = "a downstream wants the call again and asks nothing"
    ASKED_IN_VAIN = "a downstream asks a client that cannot be asked"
    ANSWER_TAKEN = "an answer is acknowledged"
    ANSWER_REFUSED = "an answer is refused"
    ANSWER_IN_PARTS = "a round is answered in parts"
    ANSWER_TO_ANOTHER_ROUND = "an answer names another round"
    ANSWERS_RACE = "two different answers to one question race"
    CANCEL_RACES_ANSWER = "a cancel races an answer"
    ANOTHER_PRINCIPAL_ANSWERS = "somebody answers who was not asked"
    CLIENT_WILL_NOT_ANSWER = "a client refuses to answer"
    QUESTION_TAKEN_BACK = "a downstream takes its question back"
    ENDED_WHILE_ASKING = "a downstream ends a call of which it still asks something"
    TASK_MADE = "a downstream makes a task of a call"
    TASK_OUTLIVES_ENGINE = "a task is watched by another engine than the one that sent its call"
    TASK_LOST = "a downstream forgets its task"
    TASK_CANCELLED = "a downstream cancels its task"
    TASK_GOES_ON = "a downstream goes on with a task that is to be cancelled"
    POLL_LOST = "a question about a task gets no answer"


def row_of(event: str, source: str | None) -> str:
    """A row of the lifecycle table, in words."""
    return f"{event} from {source or 'nothing'}"


@dataclass(slots=True)
class Coverage:
    """How often each rare event happened and each row of the table was taken, over any number of runs."""

    events: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)

    def add(self, events: Mapping[str, int], rows: Mapping[str, int]) -> None:
        self.events.update(events)
        self.rows.update(rows)

    @property
    def missing(self) -> tuple[str, ...]:
        """What never happened."""
        rows = [row_of(row.event.value, row.source and row.source.value) for row in TRANSITIONS]
        events = [event.value for event in Rare if not self.events[event.value]]
        return (*events, *(row for row in rows if not self.rows[row]))

    def lines(self) -> tuple[str, ...]:
        """All of it, for people."""
        events = [f"{self.events[event.value]:>9,}  {event.value}" for event in Rare]
        names = [row_of(row.event.value, row.source and row.source.value) for row in TRANSITIONS]
        return (*events, *(f"{self.rows[name]:>9,}  {name}" for name in names))
