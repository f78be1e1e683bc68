"""What really happened outside: every request that was written, and what its effect and its answer became.

The judge's truth. Nothing of the product writes here.
"""

from dataclasses import dataclass, field
from typing import Literal

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import ApprovalStatus, Json, OutcomeKind
from holdfast_tools.request import CallRequest


@dataclass(slots=True)
class Sending:
    """One request that was written to a downstream. Moments order everything of a run; None: it never was.

    `call` is the call that was running under the request's trace context when it was written, None for a read that
    runs unrecorded. `dispatched_at` is when the engine had decided to send it, `instant` when it did: virtual seconds.
    `begun`: the effect began. `dead`: it will never begin any more. `handed`: the answer reached an
    engine that lived. `lost`: the engine was told that no answer will come. `asks`: the answer is a question, and the
    effect needs another request. `task` is what the downstream made of it. `carried` are the answers that it brought
    along.
    """

    number: int
    moment: int
    instant: float
    dispatched_at: float
    process: int
    downstream: str
    tool: str
    arguments: Json
    call: str | None
    fence: int
    traceparent: str | None
    carried: Json = field(default_factory=dict)
    begun: int | None = None
    failed: bool = False
    dead: bool = False
    asks: bool = False
    task: "TaskFate | None" = None
    answer: Json | None = None
    handed: int | None = None
    lost: int | None = None

    @property
    def concluded(self) -> int | None:
        """When an engine that lived learnt what came of it: by its answer, or by its task's."""
        return self.handed if self.task is None else self.task.told

    def __str__(self) -> str:
        whose = f"{self.call[:6]} attempt {self.fence}" if self.call is not None else "unrecorded"
        return f"#{self.number} {self.downstream}__{self.tool} ({whose})"


@dataclass(slots=True)
class TaskFate:
    """What became of a downstream's own task.

    `answer` is its outcome, `told` when that reached an engine that lived, `cancelled` that it ended without effect
    because that was wanted, `gone` when the downstream forgot it. `asking`: its effect
    waits for an answer. `heard` is when an engine heard of it, in virtual
    seconds.
    """

    id: str
    core: bool
    heard: list[float]
    answer: Json | None = None
    told: int | None = None
    cancelled: bool = False
    gone: int | None = None
    asking: bool = False


@dataclass(slots=True)
class Question:
    """Something that a downstream asked. `received` are the answers that reached it, in order.

    `how` it was asked: in the answer of a request (`round`), in the midst of one (`within`), or by a task of its own.
    """

    number: int
    sending: Sending
    how: Literal["round", "within", "task"]
    received: list[Json] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Under which the downstream asks, where it names its questions."""
        return f"question-{self.number}"

    @property
    def request(self) -> Json:
        """As it stands on the wire."""
        schema = {"type": "object", "properties": {"offer": {"type": "integer"}}}
        return {"method": "elicitation/create", "params": {"message": self.key, "requestedSchema": schema}}


@dataclass(slots=True)
class Offer:
    """Somebody's answer to a question. `acknowledged`: who gave it was told that it was taken.

    `round` is the number under which it was given. `misnamed`: that is another round than the question's own, so that
    it answers whatever is asked there under the same key, should anything be.
    """

    number: int
    call: str
    round: int
    question: str
    principal: str
    misnamed: bool = False
    acknowledged: int | None = None

    @property
    def content(self) -> Json:
        """As it stands on the wire: no two offers are alike."""
        return {"action": "accept", "content": {"offer": self.number}}


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


@dataclass(frozen=True, slots=True)
class Grant:
    """A gate of an engine allowed one retry."""

    process: int
    downstream: str


@dataclass(slots=True)
class Ledger:
    """All of it, in order.

    `cancels`: calls that somebody asked to cancel. `ended`: engines by number, and the moment they ended. `refused`:
    requests that got no call, by what they got instead. `requests`: what was asked, by number. `owners`: engines by
    the name under which they hold leases.
    """

    sendings: list[Sending] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    tellings: list[Telling] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    requests: dict[int, CallRequest] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)

    def ask(self, sending: Sending, how: Literal["round", "within", "task"]) -> Question:
        """A new question."""
        question = Question(len(self.questions) + 1, sending, how)
        self.questions.append(question)
        return question

    def offer(self, call: str, number: int, question: str, principal: str, *, misnamed: bool = False) -> Offer:
        """A new answer."""
        offer = Offer(len(self.offers) + 1, call, number, question, principal, misnamed)
        self.offers.append(offer)
        return offer

    def question(self, request: Json) -> Question:
        """The question that this request puts."""
        return self.questions[int(str(request["params"]["message"]).removeprefix("question-")) - 1]
