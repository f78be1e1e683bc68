"""What really happened outside: every request that was written, and what its effect and its answer became.

The judge's truth. Nothing of the product writes here.
"""

from dataclasses import dataclass, field

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import ApprovalStatus, Json, OutcomeKind
from holdfast_tools.request import CallRequest


@dataclass(slots=True)
class Sending:
    """One request that was written to a downstream. Moments order everything of a run; None: it never was.

    `call` is the call that was running under the request's trace context when it was written, None for a read that
    runs unrecorded. `begun`: the effect began. `dead`: it will never begin any more. `handed`: the answer reached an
    engine that lived. `lost`: the engine was told that no answer will come.
    """

    number: int
    moment: int
    instant: float
    process: int
    downstream: str
    tool: str
    arguments: Json
    call: str | None
    fence: int
    begun: int | None = None
    failed: bool = False
    dead: bool = False
    answer: Json | None = None
    handed: int | None = None
    lost: int | None = None

    def __str__(self) -> str:
        whose = f"{self.call[:6]} attempt {self.fence}" if self.call is not None else "unrecorded"
        return f"#{self.number} {self.downstream}__{self.tool} ({whose})"


@dataclass(frozen=True, slots=True)
class Telling:
    """A client was told how a call stands. `request` is what it had asked, None where it asked by id."""

    moment: int
    request: int | None
    call: str
    state: State
    kind: OutcomeKind | None
    payload: Json | None


@dataclass(frozen=True, slots=True)
class Vote:
    """A person decided and was told that it counts."""

    moment: int
    approval: str
    person: str
    kind: str
    status: ApprovalStatus


@dataclass(slots=True)
class Ledger:
    """All of it, in order.

    `cancels`: calls that somebody asked to cancel. `ended`: engines by number, and the moment they ended. `refused`:
    requests that got no call, by what they got instead. `requests`: what was asked, by number. `owners`: engines by
    the name under which they hold leases.
    """

    sendings: list[Sending] = field(default_factory=list)
    tellings: list[Telling] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    requests: dict[int, CallRequest] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
