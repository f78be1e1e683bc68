"""What a store promises. Every backend passes the one suite in ``tests/store/test_contract.py``.

**Writes are values.** Each is an independent compare-and-set; `Store.commit` applies a sequence of them in one
transaction, in order, and concurrent callers share a transaction (group commit). When `commit` returns, what it
reports survives a power cut. A write that finds the world changed reports `Stale` (or its like) and changes
nothing; it never fails the others. The store stamps all times: writes carry spans, never clock readings.

**Lines.** Calls with the same `line` run one at a time. A call stands in its line from when it is queued until it has
ended, is in doubt or is parked, through every attempt, pause and round of input; when it is queued after that, it
joins the line's end. Only the first of a line is started, whoever asks; its journal says when its turn has come
("next_in_line").

**Reads** see every write whose commit has returned.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    Approval,
    ApprovalStatus,
    Call,
    CatalogRecord,
    JournalEntry,
    Json,
    NewApproval,
    NewCall,
    Outcome,
    RemoteTask,
    Round,
    VerdictKind,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who runs a call, and for how long without a renewal."""

    owner: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class Dedupe:
    """When a call without a key joins an earlier same call of the same principal.

    It joins one that is open and at least `min_age_s` old, or that ended within `join_window_s` and whose outcome
    was never delivered; not one that has a key, nor one whose `client_call_id` is known to differ, nor one that was
    cancelled, nor one that answered by asking for input, and waits for it or was left so: these have no effect to
    protect. One that asks in the midst of its attempt, or of its remote task, it does join. With the same
    `client_call_id` it joins whatever the age.
    """

    min_age_s: float = 0.5
    join_window_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what has ended is kept. Nothing open is ever purged.

    Within `replay_s` after its end a keyed call answers its outcome; then, for `tombstone_s`, the key answers
    "executed, outcome purged" and never executes. A key whose call was never dispatched is released after
    `undispatched_s`; one that asked for input was dispatched. Arguments and outcomes go after `payload_s`, journal and
    call rows after `journal_s`.
    """

    replay_s: float = 24 * 3600.0
    tombstone_s: float = 90 * 86400.0
    undispatched_s: float = 60.0
    payload_s: float = 30 * 86400.0
    journal_s: float = 400 * 86400.0


T = TypeVar("T")

# --- writes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """Take a call in: key, call, approval and journal in one step.

    `event` is ADMIT, START (with `lease`: admitted and claimed at once, fence 1), PARK (with `approval`) or DENY
    (with `outcome`). With a key: an unreleased row of the same (tenant, principal, downstream, original_name, key)
    answers `Replayed` (ended) or `Joined` (open) on the same fingerprint, `Conflict` on another, `Purged` beyond the
    replay window. Without one, `dedupe` may answer `Joined`. A call with `resumes` joins an open or done call that
    resumes the same one. With `joins_only` a call that nothing answers for is not taken in: `Stale`, and nothing of
    it is kept. `round` carries what the requester answered unasked: number 0, answers and nothing else. `waited_s` is
    how long ago the request came: the call's `created_at` lies that far back, so that repeats which waited together
    for a catalog are told apart by when they were sent.

    Where others stand in its line, START becomes ADMIT: it is queued behind them, without a lease. Without `may_wait`
    it is not taken in then: `Stale`, as above.
    """

    call: NewCall
    event: Event
    lease: Lease | None = None
    approval: NewApproval | None = None
    outcome: Outcome | None = None
    dedupe: Dedupe | None = None
    round: Round | None = None
    waited_s: float = 0.0
    joins_only: bool = False
    may_wait: bool = True
    note: str | None = None
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """Journal a read-only call that has already run: START and SETTLE (or FAIL) in one step.

    `took_s` is how long it ran; its `created_at` lies that far back.
    """

    call: NewCall
    outcome: Outcome
    took_s: float
    delivered: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the lease of a queued call's next attempt: CLAIM, fence + 1.

    Stale where it is not queued, still pauses, is not the first of its line, or is past its deadline or `execute_by`.
    """

    call_id: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Move:
    """Move a call along the row (`event`, its current state) of the table; Stale where there is none.

    A fenced row also needs `fence` to be the call's current one; any other compares it where it is given. `outcome`
    goes with a terminal target, and only there; `delay_s` is the pause before the next claim (RETRY) or how long an
    answer is waited for (ASK, 0 for as long as the deadline allows); `approval` goes with PARK, `round` with ASK.
    LOSE, and RETRY and FAIL with `lost`, count a loss; RETRY and FAIL of a begun attempt without it count a failure,
    unless `sent` is False. A retry that was not sent keeps `execute_by`. A claim is made by `Claim`, answers come
    with `Answer`.

    ASK gives up the lease, unless its round is `attached`: then the attempt is under way as before, and only it or
    recovery ends it. What is queued again forgets a round that was attached, but for its number, and, unless `sent`
    is False, the remote task. One that keeps its remote task has begun: no time ends it in the queue.

    With `round_number` it is Stale, too, unless the call waits for answers to the round of that number; with
    `unhandled`, where a client was given its id.
    """

    call_id: str
    event: Event
    actor: str
    fence: int | None = None
    outcome: Outcome | None = None
    approval: NewApproval | None = None
    delay_s: float = 0.0
    lost: bool = False
    sent: bool = True
    round: Round | None = None
    round_number: int | None = None
    unhandled: bool = False
    note: str | None = None
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the round of that number of a call that waits for input; Stale where it waits for another, or no more.

    Answers to what was not asked, or is answered already, are dropped. Those that leave a request unanswered are
    kept, and nothing moves. Once every request is answered, the call moves on: to the queue (ANSWER), or, where the
    round is attached, back to its attempt (CONTINUE). With `final` it does so with whatever was answered, and
    answers to what was not asked are kept as they came. So a round is consumed once. `client` is what the answering
    client says of itself, where that is new.
    """

    call_id: str
    number: int
    actor: str
    answers: Json
    final: bool = False
    client: Json | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Keep what the downstream made of a running call's attempt: a task of its own. Stale as for a fenced `Move`."""

    call_id: str
    fence: int
    actor: str
    task: RemoteTask


@dataclass(frozen=True, slots=True)
class KeepSecret:
    """Keep a secret under a name, unless one is kept there already. Answers `Kept` with the one that is kept."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Decide:
    """Add one person's verdict to a pending approval and recount the quorum in the same transaction.

    An approval that reaches its quorum queues the call (APPROVE) with `execute_by` set; one counting rejection
    fails it (REJECT) with an outcome of kind REJECTED whose message is `comment`. A second verdict of the same
    principal replaces nothing: it is `Undecidable`.
    """

    approval_id: str
    principal: str
    roles: frozenset[str]
    kind: VerdictKind
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend every lease that `lease.owner` holds. Answers `Count`."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Mark:
    """Set flags of a call; never unset. Answers `Moved` or, for an unknown call, `Stale`."""

    call_id: str
    delivered: bool = False
    handled: bool = False
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Journal something about a call that does not move it: joined, replayed, not sent, resumed by, ...

    Answers `Count` or, for an unknown call, `Stale`.
    """

    call_id: str
    event: str
    actor: str
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recover:
    """Take over calls whose attempt nobody runs any more. Answers `Swept` with every moved call.

    All that `owner` does not hold where `takeover` (the owner lock proves that nobody else lives), else those
    whose lease has run out: running calls, and those that wait for input with their attempt under way. One with a
    remote task is queued (RETRY, no loss), to watch that task again. A `retry_safe` call is queued again (RETRY, a
    loss) until it has `max_losses`, then fails; any other is in doubt (LOSE).
    """

    owner: str
    takeover: bool
    max_losses: int = 3


@dataclass(frozen=True, slots=True)
class Expire:
    """End what has run out of time: undecided approvals, queued calls past `execute_by`, unanswered input, and
    whatever of these is past its deadline. At most `limit` calls; answers `Swept` with every moved call.
    """

    limit: int = 500


@dataclass(frozen=True, slots=True)
class Purge:
    """Forget what `retention` no longer keeps, at most `limit` payloads and `limit` calls at a time.

    Answers `Count`; repeat it until that is 0. A payload is kept while its key replays it, a call while its key is
    held.
    """

    retention: Retention
    limit: int = 500


@dataclass(frozen=True, slots=True)
class SaveCatalog:
    """Keep a downstream's tools as last seen; the store stamps `seen_at`. Answers `Count`."""

    record: CatalogRecord


Write = (
    Admit
    | Record
    | Claim
    | Move
    | Answer
    | Follow
    | Decide
    | Renew
    | Mark
    | Note
    | Recover
    | Expire
    | Purge
    | SaveCatalog
    | KeepSecret
)

# --- results ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """Admitted as a call of its own. `behind` is the call directly before it in its line, where there is one."""

    call: Call
    behind: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The key's call has ended: its stored outcome answers."""

    call: Call


@dataclass(frozen=True, slots=True)
class Joined:
    """An earlier call answers for this one: open under the same key, or an undelivered same call."""

    call: Call


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key was used with other arguments, by `call_id`."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Purged:
    """The key's call was executed and has ended so long ago that its outcome no longer replays."""

    call_id: str
    ended_at: float


@dataclass(frozen=True, slots=True)
class Moved:
    """The call as it stands after the write."""

    call: Call


@dataclass(frozen=True, slots=True)
class Stale:
    """The write did not apply. `call` is what was found instead, None where there is no such call."""

    call: Call | None


@dataclass(frozen=True, slots=True)
class Decided:
    """The verdict was counted; `call` moved where the approval is no longer pending."""

    approval: Approval
    call: Call


@dataclass(frozen=True, slots=True)
class Undecidable:
    """The verdict was not counted: already decided, already voted, or it counts towards no requirement.

    `approval` is None where there is none of that id. `reason` is a sentence.
    """

    approval: Approval | None
    reason: str


@dataclass(frozen=True, slots=True)
class Swept:
    """The calls that a sweep moved, as they stand now."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a write touched."""

    rows: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The secret that is kept under the name."""

    value: bytes


WriteResult = (
    Accepted | Replayed | Joined | Conflict | Purged | Moved | Stale | Decided | Undecidable | Swept | Count | Kept
)

# --- reads ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls to list; None matches all. `principal` goes with `tenant`."""

    states: frozenset[State] | None = None
    tool: str | None = None
    run: str | None = None
    principal: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, newest first. `cursor` is opaque and leads to the next page; None on the last."""

    items: tuple[T, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A transaction that failed: in a sentence, when, and whether a later one has succeeded."""

    sentence: str
    at: float
    over: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What `doctor` shows of a store: counts by state, the journal's length, size and integrity in words.

    `trouble` is the last of this process's transactions that failed. Where `problems` kept the counts from being taken,
    they are 0.
    """

    backend: str
    location: str
    calls_by_state: dict[State, int]
    pending_approvals: int
    journal_entries: int
    size_bytes: int
    problems: tuple[str, ...]
    trouble: Trouble | None = None


class Store(Protocol):
    """The contract. All methods raise `StoreError` when the disk or the database is in the way."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        """Apply `writes` in order in one durable transaction; one result per write, in the same order.

        Shielded: a cancelled caller drops the result, never the write.
        """
        ...

    def commit_soon(self, writes: Sequence[Write]) -> None:
        """Apply `writes` with the next transaction, or within 50 ms; their results are dropped.

        Ordered before every later `commit` of this process. For what may be lost with a crash: delivery marks and
        the records of fast reads. A failure is logged.
        """
        ...

    def retain(self, retention: Retention) -> None:
        """Go by `retention` from now on, for what ended before as well."""
        ...

    async def find_key(
        self, tenant: str, principal: str, downstream: str, original_name: str, key: str
    ) -> Call | Purged | None:
        """The call that holds the key, or None where it is free (or released)."""
        ...

    async def get_call(self, call_id: str) -> Call | None: ...

    async def list_calls(self, match: CallFilter, limit: int, cursor: str | None = None) -> Page[Call]:
        """Newest first by admission. Raises `ValueError` for a cursor that this method did not make."""
        ...

    async def get_approval(self, approval_id: str) -> Approval | None: ...

    async def list_approvals(
        self, status: ApprovalStatus | None, limit: int, cursor: str | None = None, *, tenant: str | None = None
    ) -> Page[Approval]:
        """Newest first, of all tenants or of one. Raises `ValueError` for a cursor that this method did not make."""
        ...

    async def journal(self, call_id: str) -> Sequence[JournalEntry]:
        """The call's timeline, oldest first."""
        ...

    async def runnable(self, limit: int, full: Collection[str] = ()) -> Sequence[Call]:
        """Queued calls that may be claimed now, oldest first.

        Of a line only the first. Of the downstreams named in `full` only those whose task there needs to be watched,
        and nothing to be sent.
        """
        ...

    async def next_due_s(self) -> float | None:
        """Seconds until the next pause is over or `Expire` has work, 0 where it has; None where neither will be.

        What may be claimed now does not count: ask this first, then `runnable`, so that nothing slips between.
        """
        ...

    async def catalogs(self) -> Sequence[CatalogRecord]: ...

    async def health(self, *, deep: bool = False) -> Health:
        """Counts and, where `deep`, an integrity check of the whole file."""
        ...

    async def close(self) -> None:
        """Flush what was promised soon, then let go of the disk. Safe to call twice."""
        ...
