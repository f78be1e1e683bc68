"""Bugs to plant in the store: guards that do not guard, transactions that do not hold together."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulation.planting import Mutant, Patch, without

from holdfast_store.contract import Mark, Recover, Swept
from holdfast_store.model import quorum
from holdfast_store.model.lifecycle import TRANSITIONS, Event, State, Transition, transition
from holdfast_store.model.values import ApprovalStatus, Call
from holdfast_store.sqlite import admit, advance, apply, decide, keep, move, reads, sweep
from holdfast_store.sqlite.rows import Found
from holdfast_store.sqlite.transaction import Transaction
from holdfast_tools import gateway
from holdfast_tools.request import Reply


def no_fence_check() -> tuple[Patch, ...]:
    return ((advance, "_MOVE", without(advance._MOVE, "AND fence = ?", "AND (fence = ? OR 1)")),)


def no_state_guard() -> tuple[Patch, ...]:
    return ((move, "transition", from_anywhere),)


def decision_without_compare_and_set() -> tuple[Patch, ...]:
    refusal = decide._refusal

    def blind(approval: Any, verdict: Any, found: Found | None, now: float) -> str | None:
        pending = replace(approval, status=ApprovalStatus.PENDING, expires_at=now + 1)
        return refusal(pending, verdict, found, now)

    return (decide, "_refusal", blind), (decide, "transition", from_anywhere)


def key_lookup_outside_the_transaction() -> tuple[Patch, ...]:
    return ((admit, "_by_key", lambda tx, new: None),)


def key_released_with_the_outcome() -> tuple[Patch, ...]:
    def held(call: Call, now: float, retention: object) -> bool:
        return call.ended_at is None

    return (admit, "holds_key", held), (reads, "holds_key", held)


def takeover_queues_writes_again() -> tuple[Patch, ...]:
    take_over = sweep._take_over

    def hopeful(tx: Transaction, write: Recover, found: Found) -> Call | None:
        return take_over(tx, write, found._replace(retry_safe=1))

    return ((sweep, "_take_over", hopeful),)


def nothing_is_taken_over() -> tuple[Patch, ...]:
    return (applier(Recover, lambda tx, write: Swept(())),)


def expiry_approves() -> tuple[Patch, ...]:
    moved = sweep._advance

    def kind(tx: Transaction, found: Found, event: Event, detail: Any, changes: Any, due_at: Any) -> Call | None:
        if event is Event.EXPIRE and found.state == State.WAITING_FOR_APPROVAL.value:
            return moved(tx, found, Event.APPROVE, detail, {}, None)
        return moved(tx, found, event, detail, changes, due_at)

    return ((sweep, "_advance", kind),)


def join_ignores_the_fingerprint() -> tuple[Patch, ...]:
    whatever = without(admit._JOINABLE, "fingerprint = :fingerprint", ":fingerprint IS NOT NULL")
    return ((admit, "_JOINABLE", whatever),)


def join_ignores_the_principal() -> tuple[Patch, ...]:
    anybody = without(admit._JOINABLE, "principal = :principal", ":principal IS NOT NULL")
    return ((admit, "_JOINABLE", anybody),)


def repeats_never_join() -> tuple[Patch, ...]:
    return ((admit, "_by_repetition", lambda tx, write: None),)


def delivered_before_settled() -> tuple[Patch, ...]:
    def delivered(self: gateway.Gateway, reply: Reply) -> None:
        self._store.commit_soon((Mark(reply.call.id, delivered=True, handled=True),))

    def mark(tx: Transaction, write: Mark) -> object:
        found = tx.find(write.call_id)
        if found is not None and write.delivered:
            tx.connection.execute("UPDATE calls SET delivered = 1 WHERE seq = ?", (found.seq,))
        return keep.mark(tx, write)

    return (gateway.Gateway, "delivered", delivered), applier(Mark, mark)


def requesters_may_approve() -> tuple[Patch, ...]:
    def counts(need: Any, verdict: Any, requesters: object) -> bool:
        return bool(need.roles & verdict.roles)

    return (quorum, "counts", counts), (decide, "counts", counts)


def one_approval_is_enough() -> tuple[Patch, ...]:
    satisfied = quorum.satisfied

    def easily(need: Any, verdicts: Any, requesters: Any) -> bool:
        return satisfied(replace(need, min_verdicts=1), verdicts, requesters)

    return ((quorum, "satisfied", easily),)


def from_anywhere(event: Event, source: State | None) -> Transition | None:
    """The row of `event`, whatever state the call is in."""
    found = transition(event, source)
    rows = [row for row in TRANSITIONS if row.event is event and row.source is not None]
    if found is not None or source is None or not rows:
        return found
    return replace(rows[0], source=source)


def applier(kind: type, instead: Callable[[Transaction, Any], object]) -> Patch:
    """A patch that has writes of this kind applied otherwise."""
    return apply, "_APPLIERS", {**apply._APPLIERS, kind: instead}


MUTANTS_OF_THE_STORE = (
    Mutant("no fence check", no_fence_check),
    Mutant("no state guard", no_state_guard),
    Mutant("a decision without compare-and-set", decision_without_compare_and_set),
    Mutant(
        "key lookup outside the transaction", key_lookup_outside_the_transaction, changes=("DROP INDEX calls_by_key",)
    ),
    Mutant("a key is released with the outcome", key_released_with_the_outcome),
    Mutant("takeover queues writes again", takeover_queues_writes_again),
    Mutant("nothing is taken over", nothing_is_taken_over),
    Mutant("expiry approves", expiry_approves),
    Mutant("a join ignores the fingerprint", join_ignores_the_fingerprint),
    Mutant("a join ignores the principal", join_ignores_the_principal),
    Mutant("repeats never join", repeats_never_join),
    Mutant("delivered before settled", delivered_before_settled),
    Mutant("requesters may approve", requesters_may_approve),
    Mutant("one approval is enough", one_approval_is_enough),
)
