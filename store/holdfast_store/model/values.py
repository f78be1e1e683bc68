"""The values everything is made of: principals, calls, outcomes, approvals, journal entries.

Times are `datetime`-free: seconds since the epoch, as floats, always named ``*_at``; spans are seconds, named
``*_s``. JSON payloads are plain dicts as they travel on the wire.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from holdfast_store.model.lifecycle import TERMINAL, Event, State

Json = dict[str, Any]

DEFAULT_TENANT = "default"


def new_id() -> str:
    """A fresh call or approval id: 128 random bits in hex, unguessable."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. Two principals are the same when id and tenant are."""

    id: str
    roles: frozenset[str] = frozenset()
    tenant: str = DEFAULT_TENANT


LOCAL = Principal("local")
"""A caller on this machine's stdio, or over loopback HTTP where no principals are configured."""


class OutcomeKind(StrEnum):
    """How a call ended. All but RESULT belong to `failed` or `cancelled`."""

    RESULT = "result"  # the downstream's CallToolResult
    TOOL_ERROR = "tool_error"  # the downstream's CallToolResult with isError
    RPC_ERROR = "rpc_error"  # the downstream's JSON-RPC error
    ERROR = "error"  # sent, and no attempt is left to get an answer
    UNREACHABLE = "unreachable"  # never sent: the downstream could not be reached, or is another one now
    DENIED = "denied"  # policy
    REJECTED = "rejected"  # a person
    EXPIRED = "expired"  # time
    CANCELLED = "cancelled"  # withdrawn


ADMIN_ONLY_RESUME: frozenset[OutcomeKind] = frozenset({OutcomeKind.DENIED, OutcomeKind.REJECTED, OutcomeKind.EXPIRED})
"""Ended by policy, people or time: the requester cannot resume them, an admin can."""

UNDISPATCHED: frozenset[OutcomeKind] = ADMIN_ONLY_RESUME | {OutcomeKind.UNREACHABLE}
"""Outcomes of calls that were never sent: their keys are released early."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    `payload` is the wire form: a CallToolResult for RESULT and TOOL_ERROR, a JSON-RPC error object
    (``{"code", "message", "data"?}``) for RPC_ERROR, and ``{"message"}`` for what Holdfast itself decided.
    """

    kind: OutcomeKind
    payload: Json

    @property
    def message(self) -> str:
        """The sentence of an outcome that is not a result."""
        return str(self.payload.get("message", ""))


@dataclass(frozen=True, slots=True)
class Round:
    """What a downstream asked the requester in the midst of a call, and what was answered so far.

    `number` counts the rounds of a call from 1; 0 carries answers that the requester gave unasked. `requests` and
    `answers` are wire objects by the downstream's own keys, `state` is its opaque `requestState`. `attached`: the
    attempt that asked is still under way, and the answers go to it; else they go with the next attempt.
    """

    number: int
    requests: Json = field(default_factory=dict)
    state: str | None = None
    answers: Json = field(default_factory=dict)
    attached: bool = False

    @property
    def unanswered(self) -> Json:
        """The requests that have no answer yet."""
        return {key: request for key, request in self.requests.items() if key not in self.answers}


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """The downstream's own task for a call: watched, also after a restart, instead of calling again.

    `answered` are the keys of its input requests that it was given answers to; rounds up to number `after_round` were
    not its own. `poll_s` is how often it wants to be asked. `core`: it is one of 2025-11-25, whose questions come as
    requests to whoever waits for its result.
    """

    id: str
    poll_s: float | None = None
    answered: tuple[str, ...] = ()
    after_round: int = 0
    core: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """What is known of a call when it is admitted, and never changes afterwards.

    `tool` is the canonical ``server__tool``, `original_name` the downstream's own. `identity` is the digest of the
    downstream's command or url; only a downstream with that identity runs the call. `definition` is the digest of the
    tool's pinned definition. `fingerprint` is the SHA-256 of the canonical requested arguments. `retry_safe` says
    that an attempt whose answer is lost may be sent again. `requesters` are the principals that may not approve it.
    `traceparent` is the caller's, handed on to the downstream. `deadline_s` counts from admission. `client` is what
    the calling client said of itself; a downstream is told the same, however much later the call is sent. Calls of the
    same `line` run one at a time, in the order in which they joined it; None for a call that may run beside any other.
    """

    id: str
    tenant: str
    principal: str
    tool: str
    downstream: str
    original_name: str
    identity: str
    definition: str
    arguments: Json
    fingerprint: str
    run: str
    retry_safe: bool
    requesters: tuple[str, ...]
    key: str | None = None
    client_call_id: str | None = None
    traceparent: str | None = None
    rules: tuple[str, ...] = ()
    resumes: str | None = None
    deadline_s: float | None = None
    client: Json | None = None
    line: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(NewCall):
    """One `tools/call` that a client asked for, as stored.

    `fence` is the number of the last claimed attempt, 0 before the first; a write of a runner is valid only with the
    current one. `failures` counts attempts answered with an error, `losses` attempts whose answer was lost.
    `delivered`: the outcome was written to the client before any cancel was seen. `handled`: the client was given
    the call's id. `note` says to people what is waited for. `round` is the last round of input; answered in full
    wherever the state is not `waiting_for_input`. `remote_task` is what the downstream made of the current attempt.
    `ticket` orders the calls that stand in the same line; the lowest is next. None where it stands in none.
    """

    state: State
    created_at: float
    updated_at: float
    outcome: Outcome | None = None
    delivered: bool = False
    handled: bool = False
    fence: int = 0
    failures: int = 0
    losses: int = 0
    not_before: float | None = None
    deadline_at: float | None = None
    execute_by: float | None = None
    lease_owner: str | None = None
    lease_until: float | None = None
    ended_at: float | None = None
    cancel_requested: bool = False
    approval_id: str | None = None
    note: str | None = None
    round: Round | None = None
    remote_task: RemoteTask | None = None
    ticket: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the call is in a terminal state."""
        return self.state in TERMINAL


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class VerdictKind(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one matching rule demands before the call may run.

    `digest` identifies the rule's text, so that a changed rule asks again. A verdict counts when its principal holds
    one of `roles`; with `prevent_self_review` it must not be a requester of the call. `min_verdicts` distinct
    principals must approve.
    """

    rule: str
    digest: str
    min_verdicts: int = 1
    roles: frozenset[str] = frozenset({"approver"})
    prevent_self_review: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One person's answer to an approval."""

    principal: str
    roles: frozenset[str]
    kind: VerdictKind
    comment: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApproval:
    """The question to people, bound to arguments, definition and rules.

    `expires_in_s`: undecided for that long, it is rejected by time. `execute_within_s`: once approved, the call must
    have started within this span, else it expires.
    """

    id: str
    requirements: tuple[Requirement, ...]
    arguments_hash: str
    definition: str
    reason: str
    expires_in_s: float
    execute_within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(NewApproval):
    """An approval as stored, with what the approver must see of its call."""

    call_id: str
    tenant: str
    tool: str
    requesters: tuple[str, ...]
    arguments: Json
    status: ApprovalStatus
    created_at: float
    expires_at: float
    verdicts: tuple[Verdict, ...] = ()
    decided_at: float | None = None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the append-only record. `seq` orders all entries of a store."""

    seq: int
    call_id: str
    at: float
    event: Event | str
    state: State
    attempt: int
    actor: str
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConditionalTools:
    """The tools that a downstream lists to clients that declare `capabilities`, and not to one that declares none.

    `beside` tells, as a digest, what it listed to one that declares none at that time.
    """

    capabilities: Json
    tools: tuple[Json, ...]
    beside: str


@dataclass(frozen=True, slots=True)
class CatalogRecord:
    """What one downstream offers as last seen, kept so that the next start answers at once.

    `tools` is what it lists to a client that declares nothing, `conditional` what it lists to others besides: by what
    they declare, the kind that was listed last at the end. `capabilities` is what the downstream itself declared, as
    on the wire; None where that was not kept.
    """

    downstream: str
    identity: str
    protocol_version: str
    tools: tuple[Json, ...]
    seen_at: float
    instructions: str | None = None
    capabilities: Json | None = None
    conditional: tuple[ConditionalTools, ...] = ()
