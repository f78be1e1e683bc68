"""What every backend promises, one promise per test. The backends are in ``conftest.py``."""

from dataclasses import asdict, replace

import pytest
from store_builders import (
    BROKEN,
    DENIED,
    ENGINE,
    LEASE,
    PAID,
    ROUND,
    WITHDRAWN,
    Clock,
    admitted,
    claimed,
    in_state,
    moved,
    new_approval,
    new_call,
    one,
    requirement,
    settled,
)

from holdfast_store.contract import (
    Accepted,
    Admit,
    CallFilter,
    Claim,
    Conflict,
    Count,
    Decide,
    Decided,
    Dedupe,
    Expire,
    Follow,
    Joined,
    Lease,
    Mark,
    Move,
    Moved,
    Note,
    Purge,
    Purged,
    Record,
    Recover,
    Renew,
    Replayed,
    Retention,
    SaveCatalog,
    Stale,
    Store,
    Swept,
    Undecidable,
)
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    UNDISPATCHED,
    ApprovalStatus,
    CatalogRecord,
    ConditionalTools,
    Outcome,
    OutcomeKind,
    RemoteTask,
    VerdictKind,
    new_id,
)

APPROVER = frozenset({"approver"})


def approve(approval_id: str, principal: str = "alice", **fields: object) -> Decide:
    return replace(Decide(approval_id, principal, APPROVER, VerdictKind.APPROVE), **fields)


def reject(approval_id: str, principal: str = "alice", comment: str = "too much") -> Decide:
    return Decide(approval_id, principal, APPROVER, VerdictKind.REJECT, comment)


async def parked(store: Store, **approval: object):
    return await admitted(store, event=Event.PARK, approval=new_approval(**approval))


# --- admission --------------------------------------------------------------------------------------------------


async def test_an_admitted_call_is_queued_and_reads_back_as_it_was_answered(store: Store, clock: Clock) -> None:
    new = new_call(deadline_s=60.0, traceparent="00-a-b-01", rules=("r1", "r2"), client_call_id="toolu_1", key="k")
    call = await admitted(store, new, Event.ADMIT, note="waits for a slot")
    assert call.state is State.QUEUED
    assert (call.fence, call.created_at, call.deadline_at) == (0, clock.now, clock.now + 60.0)
    assert {name: value for name, value in asdict(call).items() if name in asdict(new)} == asdict(new)
    assert await store.get_call(call.id) == call


async def test_a_started_call_is_admitted_and_claimed_at_once(store: Store, clock: Clock) -> None:
    call = await admitted(store)
    assert (call.state, call.fence, call.lease_owner, call.lease_until) == (State.RUNNING, 1, ENGINE, clock.now + 30.0)
    assert await store.get_call(call.id) == call
    assert [(entry.event, entry.state, entry.attempt) for entry in await store.journal(call.id)] == [
        (Event.START, State.RUNNING, 1)
    ]


async def test_a_parked_call_comes_with_its_approval(store: Store, clock: Clock) -> None:
    approval = new_approval(requirements=(requirement(), requirement(rule="night", roles=frozenset({"a", "b"}))))
    call = await admitted(store, event=Event.PARK, approval=approval, note="waits for approval")
    stored = await store.get_approval(approval.id)
    assert stored is not None
    assert (call.state, call.approval_id) == (State.WAITING_FOR_APPROVAL, approval.id)
    assert (stored.status, stored.expires_at) == (ApprovalStatus.PENDING, clock.now + approval.expires_in_s)
    assert (stored.call_id, stored.tool, stored.arguments) == (call.id, call.tool, call.arguments)
    assert stored.requirements == approval.requirements
    assert await store.get_call(call.id) == call


async def test_a_denied_call_is_failed_with_the_reason(store: Store, clock: Clock) -> None:
    call = await admitted(store, event=Event.DENY)
    assert (call.state, call.outcome, call.ended_at) == (State.FAILED, DENIED, clock.now)
    assert await store.get_call(call.id) == call


async def test_the_journal_keeps_note_and_detail_of_an_admission(store: Store) -> None:
    call = await admitted(store, event=Event.ADMIT, note="waits", detail={"rules": ["r"]})
    (entry,) = await store.journal(call.id)
    assert entry.detail == {"rules": ["r"], "note": "waits"}
    assert entry.actor == "local"


@pytest.mark.parametrize(
    "write",
    [
        Admit(new_call(), Event.START),
        Admit(new_call(), Event.PARK),
        Admit(new_call(), Event.PARK, approval=new_approval(requirements=())),
        Admit(new_call(), Event.DENY),
        Admit(new_call(), Event.ADMIT, lease=LEASE),
        Admit(new_call(), Event.ADMIT, outcome=PAID),
        Admit(new_call(), Event.ADMIT, approval=new_approval()),
        Admit(new_call(), Event.SETTLE, outcome=PAID),
        Admit(new_call(arguments={"x": float("nan")}), Event.ADMIT),
        Record(new_call(key="k"), PAID, 0.1),
    ],
)
async def test_a_write_that_cannot_be_right_raises_and_stores_nothing(store: Store, write: Admit | Record) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await one(store, write)
    assert await store.get_call(write.call.id) is None


# --- keys -------------------------------------------------------------------------------------------------------


async def test_a_key_whose_call_has_ended_replays_its_outcome(store: Store) -> None:
    first = await settled(store, new_call(key="k"))
    again = await one(store, Admit(new_call(key="k"), Event.START, LEASE))
    assert again == Replayed(first)


async def test_a_key_whose_call_failed_replays_the_error(store: Store) -> None:
    call = await admitted(store, new_call(key="k"))
    failed = await moved(store, call, Event.FAIL, outcome=BROKEN)
    assert await one(store, Admit(new_call(key="k"), Event.START, LEASE)) == Replayed(failed)


async def test_a_key_whose_call_is_open_joins_it(store: Store) -> None:
    first = await admitted(store, new_call(key="k"))
    assert await one(store, Admit(new_call(key="k"), Event.START, LEASE)) == Joined(first)


@pytest.mark.parametrize("fields", [{}, {"key": "k"}], ids=["unkeyed", "keyed"])
async def test_a_call_that_may_only_join_is_not_taken_in(store: Store, fields: dict[str, str]) -> None:
    new = new_call(**fields)
    write = Admit(new, Event.ADMIT, dedupe=Dedupe(min_age_s=0.0), joins_only=True)
    assert await one(store, write) == Stale(None)
    assert await store.get_call(new.id) is None
    first = await admitted(store, replace(new, id=new_id()), Event.ADMIT)
    assert await one(store, write) == Joined(first)


async def test_a_key_used_with_other_arguments_is_a_conflict(store: Store) -> None:
    first = await settled(store, new_call(key="k"))
    other = new_call(key="k", arguments={"amount": 13})
    assert await one(store, Admit(other, Event.START, LEASE)) == Conflict(first.id)


@pytest.mark.parametrize(
    "other",
    [{"tenant": "b"}, {"principal": "bob"}, {"downstream": "bank"}, {"original_name": "charge"}, {"key": "l"}],
)
async def test_a_key_belongs_to_tenant_principal_downstream_and_tool(store: Store, other: dict[str, str]) -> None:
    await settled(store, new_call(key="k"))
    assert isinstance(await one(store, Admit(new_call(**{"key": "k", **other}), Event.START, LEASE)), Accepted)


async def test_beyond_the_replay_window_a_key_answers_that_it_was_executed(store: Store, clock: Clock) -> None:
    first = await settled(store, new_call(key="k"))
    clock.advance(Retention().replay_s + 1)
    assert first.ended_at is not None
    purged = Purged(first.id, first.ended_at)
    assert await one(store, Admit(new_call(key="k"), Event.START, LEASE)) == purged
    assert await store.find_key("default", "local", "payments", "refund", "k") == purged


async def test_beyond_the_tombstone_a_key_is_free(store: Store, clock: Clock) -> None:
    await settled(store, new_call(key="k"))
    clock.advance(Retention().replay_s + Retention().tombstone_s + 1)
    assert await store.find_key("default", "local", "payments", "refund", "k") is None
    assert isinstance(await one(store, Admit(new_call(key="k"), Event.START, LEASE)), Accepted)


@pytest.mark.parametrize("kind", sorted(UNDISPATCHED))
async def test_a_key_that_was_never_dispatched_is_released_early(store: Store, clock: Clock, kind: OutcomeKind) -> None:
    outcome = Outcome(kind, {"message": "no"})
    first = await admitted(store, new_call(key="k"), Event.DENY, outcome=outcome)
    clock.advance(Retention().undispatched_s - 1)
    assert await one(store, Admit(new_call(key="k"), Event.START, LEASE)) == Replayed(first)
    clock.advance(2)
    assert await store.find_key("default", "local", "payments", "refund", "k") is None
    second = await admitted(store, new_call(key="k"))
    assert await store.find_key("default", "local", "payments", "refund", "k") == second


async def test_a_key_whose_lost_attempt_ran_out_of_time_stays_taken(store: Store, clock: Clock) -> None:
    call = await admitted(store, new_call(key="k", retry_safe=True, deadline_s=10))
    await moved(store, call, Event.RETRY, lost=True)
    clock.advance(11)
    (expired,) = (await one(store, Expire())).calls
    clock.advance(Retention().undispatched_s + 1)
    assert await one(store, Admit(new_call(key="k"), Event.START, LEASE)) == Replayed(expired)


async def test_a_key_is_found_by_whoever_may_ask_for_it(store: Store) -> None:
    call = await admitted(store, new_call(key="k"))
    assert await store.find_key("default", "local", "payments", "refund", "k") == call
    assert await store.find_key("default", "local", "payments", "refund", "other") is None


# --- repeats without a key --------------------------------------------------------------------------------------


async def test_repeats_that_waited_together_are_told_apart_by_when_they_were_sent(store):
    first = await admitted(store, dedupe=Dedupe(), waited_s=2.0)
    assert await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe(), waited_s=1.0)) == Joined(first)
    apart = await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe(), waited_s=1.9))
    assert isinstance(apart, Accepted)


async def test_a_repeat_joins_an_open_call_once_that_is_old_enough(store: Store, clock: Clock) -> None:
    first = await admitted(store, dedupe=Dedupe())
    clock.advance(0.4)
    second = await admitted(store, dedupe=Dedupe())
    clock.advance(0.2)
    joined = await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe()))
    assert joined == Joined(first)
    clock.advance(1)
    assert await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())) == Joined(second)


async def test_a_repeat_joins_a_call_that_waits_or_is_in_doubt(store: Store, clock: Clock) -> None:
    for state in (State.QUEUED, State.WAITING_FOR_APPROVAL, State.IN_DOUBT):
        call = await in_state(store, state, arguments={"state": state.value})
        clock.advance(1)
        again = new_call(arguments={"state": state.value})
        assert await one(store, Admit(again, Event.START, LEASE, dedupe=Dedupe())) == Joined(call)


async def test_a_repeat_joins_an_ended_call_whose_outcome_nobody_was_told(store: Store, clock: Clock) -> None:
    call = await settled(store)
    clock.advance(599)
    assert await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())) == Joined(call)
    clock.advance(2)
    assert isinstance(await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())), Accepted)


async def test_a_repeat_after_a_delivered_outcome_is_a_call_of_its_own(store: Store, clock: Clock) -> None:
    call = await settled(store)
    await one(store, Mark(call.id, delivered=True))
    clock.advance(1)
    assert isinstance(await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())), Accepted)


async def test_a_repeat_does_not_join_what_was_cancelled(store: Store, clock: Clock) -> None:
    await in_state(store, State.CANCELLED)
    clock.advance(1)
    assert isinstance(await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())), Accepted)


@pytest.mark.parametrize(
    "other",
    [
        {"arguments": {"amount": 1}},
        {"principal": "bob"},
        {"tenant": "b"},
        {"downstream": "bank"},
        {"original_name": "charge"},
    ],
)
async def test_a_repeat_joins_only_the_very_same_call(store: Store, clock: Clock, other: dict[str, object]) -> None:
    await admitted(store)
    clock.advance(1)
    assert isinstance(await one(store, Admit(new_call(**other), Event.START, LEASE, dedupe=Dedupe())), Accepted)


async def test_a_repeat_does_not_join_a_call_with_a_key(store: Store, clock: Clock) -> None:
    await admitted(store, new_call(key="k"))
    clock.advance(1)
    assert isinstance(await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe())), Accepted)


async def test_a_differing_client_call_id_is_a_separate_intent(store: Store, clock: Clock) -> None:
    first = await admitted(store, new_call(client_call_id="a"))
    clock.advance(1)
    other = new_call(client_call_id="b")
    assert isinstance(await one(store, Admit(other, Event.START, LEASE, dedupe=Dedupe())), Accepted)
    unknown = await one(store, Admit(new_call(), Event.START, LEASE, dedupe=Dedupe(min_age_s=0.9)))
    assert unknown == Joined(first)


async def test_the_same_client_call_id_joins_whatever_the_age(store: Store) -> None:
    first = await admitted(store, new_call(client_call_id="a"))
    again = new_call(client_call_id="a")
    assert await one(store, Admit(again, Event.START, LEASE, dedupe=Dedupe())) == Joined(first)


async def test_without_dedupe_a_repeat_is_a_call_of_its_own(store: Store, clock: Clock) -> None:
    await admitted(store)
    clock.advance(1)
    assert isinstance(await one(store, Admit(new_call(), Event.START, LEASE)), Accepted)


async def test_resuming_twice_joins_the_first_resumption_while_it_is_open(store: Store) -> None:
    failed = await in_state(store, State.FAILED)
    resumed = await admitted(store, new_call(resumes=failed.id), Event.ADMIT)
    again = new_call(resumes=failed.id)
    assert await one(store, Admit(again, Event.ADMIT, dedupe=Dedupe())) == Joined(resumed)
    await moved(store, resumed, Event.CANCEL, outcome=WITHDRAWN)
    assert isinstance(await one(store, Admit(again, Event.ADMIT, dedupe=Dedupe())), Accepted)


async def test_resuming_what_a_resumption_has_made_good_answers_with_that(store: Store) -> None:
    failed = await in_state(store, State.FAILED)
    resumed = await settled(store, new_call(resumes=failed.id))
    assert await one(store, Admit(new_call(resumes=failed.id), Event.START, LEASE)) == Joined(resumed)


# --- records of reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "event", "failures"),
    [(PAID, State.DONE, Event.SETTLE, 0), (BROKEN, State.FAILED, Event.FAIL, 1)],
)
async def test_a_recorded_read_looks_like_any_ended_call(
    store: Store, clock: Clock, outcome: Outcome, state: State, event: Event, failures: int
) -> None:
    result = await one(store, Record(new_call(), outcome, took_s=0.25))
    assert isinstance(result, Accepted)
    call = result.call
    assert (call.state, call.outcome, call.fence, call.failures, call.delivered) == (state, outcome, 1, failures, True)
    assert (call.created_at, call.ended_at) == (clock.now - 0.25, clock.now)
    assert await store.get_call(call.id) == call
    assert [(e.event, e.at, e.state) for e in await store.journal(call.id)] == [
        (Event.START, clock.now - 0.25, State.RUNNING),
        (event, clock.now, state),
    ]


# --- claims and moves -------------------------------------------------------------------------------------------


async def test_a_claim_takes_the_lease_and_the_next_fence(store: Store, clock: Clock) -> None:
    call = await admitted(store, event=Event.ADMIT)
    result = await one(store, Claim(call.id, Lease("engine-2", 10.0)))
    assert isinstance(result, Moved)
    assert (result.call.state, result.call.fence) == (State.RUNNING, 1)
    assert (result.call.lease_owner, result.call.lease_until) == ("engine-2", clock.now + 10.0)
    assert await store.get_call(call.id) == result.call
    assert [entry.event for entry in await store.journal(call.id)] == [Event.ADMIT, Event.CLAIM]


async def test_only_one_of_two_claims_gets_the_call(store: Store) -> None:
    call = await admitted(store, event=Event.ADMIT)
    first, second = await store.commit([Claim(call.id, Lease("a", 10)), Claim(call.id, Lease("b", 10))])
    assert isinstance(first, Moved)
    assert second == Stale(first.call)


async def test_a_pausing_call_is_claimed_only_when_its_pause_is_over(store: Store, clock: Clock) -> None:
    call = await admitted(store)
    paused = await moved(store, call, Event.RETRY, delay_s=5.0)
    assert paused.not_before == clock.now + 5.0
    assert await one(store, Claim(call.id, LEASE)) == Stale(paused)
    clock.advance(5.0)
    assert (await claimed(store, paused)).not_before is None


async def test_a_call_past_its_deadline_cannot_be_claimed(store: Store, clock: Clock) -> None:
    call = await admitted(store, new_call(deadline_s=10), Event.ADMIT)
    clock.advance(10)
    assert await one(store, Claim(call.id, LEASE)) == Stale(call)


async def test_writes_about_unknown_calls_are_stale(store: Store) -> None:
    writes = [
        Claim("nowhere", LEASE),
        Move("nowhere", Event.CANCEL, "me", outcome=WITHDRAWN),
        Mark("nowhere", delivered=True),
        Note("nowhere", "joined", "me"),
    ]
    assert await store.commit(writes) == [Stale(None)] * len(writes)


async def test_a_settled_call_has_its_outcome_and_no_lease(store: Store, clock: Clock) -> None:
    call = await admitted(store)
    clock.advance(2)
    done = await moved(store, call, Event.SETTLE, outcome=PAID, actor="payments", detail={"took_s": 2})
    assert (done.state, done.outcome, done.ended_at, done.updated_at) == (State.DONE, PAID, clock.now, clock.now)
    assert (done.lease_owner, done.lease_until, done.created_at) == (None, None, clock.now - 2)
    entry = (await store.journal(call.id))[-1]
    assert (entry.actor, entry.detail, entry.attempt) == ("payments", {"took_s": 2}, 1)


@pytest.mark.parametrize(
    ("event", "fields", "failures", "losses"),
    [
        (Event.RETRY, {}, 1, 0),
        (Event.RETRY, {"sent": False}, 0, 0),
        (Event.RETRY, {"lost": True}, 0, 1),
        (Event.FAIL, {"outcome": BROKEN}, 1, 0),
        (Event.FAIL, {"outcome": BROKEN, "sent": False}, 0, 0),
        (Event.FAIL, {"outcome": BROKEN, "lost": True}, 0, 1),
        (Event.LOSE, {"lost": True}, 0, 1),
        (Event.LOSE, {}, 0, 1),
        (Event.SETTLE, {"outcome": PAID}, 0, 0),
        (Event.CANCEL, {"outcome": WITHDRAWN}, 0, 0),
    ],
)
async def test_failures_and_losses_are_counted_apart(
    store: Store, event: Event, fields: dict[str, object], failures: int, losses: int
) -> None:
    call = await moved(store, await admitted(store), event, **fields)
    assert (call.failures, call.losses) == (failures, losses)
    assert await store.get_call(call.id) == call


async def test_a_call_that_fails_before_any_attempt_counts_none(store: Store) -> None:
    call = await moved(store, await admitted(store, event=Event.ADMIT), Event.FAIL, outcome=BROKEN)
    assert (call.failures, call.losses) == (0, 0)


async def test_a_fence_is_compared_wherever_it_is_given(store: Store) -> None:
    call = await moved(store, await admitted(store), Event.RETRY)
    late = Move(call.id, Event.FAIL, "runner", fence=0, outcome=BROKEN)
    assert await one(store, late) == Stale(call)


async def test_late_evidence_settles_a_call_that_is_queued_again(store: Store) -> None:
    call = await moved(store, await admitted(store), Event.RETRY, lost=True)
    assert (await moved(store, call, Event.EVIDENCE_DONE, outcome=PAID)).state is State.DONE


async def test_late_evidence_of_an_earlier_attempt_is_ignored(store: Store) -> None:
    first = await admitted(store)
    second = await claimed(store, await moved(store, first, Event.RETRY, lost=True))
    doubtful = await moved(store, second, Event.LOSE)
    late = Move(first.id, Event.EVIDENCE_DONE, "payments", fence=first.fence, outcome=PAID)
    assert await one(store, late) == Stale(doubtful)
    assert (await moved(store, doubtful, Event.EVIDENCE_FAILED, outcome=BROKEN)).state is State.FAILED


@pytest.mark.parametrize(
    "fields",
    [
        {"event": Event.SETTLE},
        {"event": Event.RETRY, "outcome": PAID},
        {"event": Event.RETRY, "approval": new_approval()},
        {"event": Event.CLAIM},
    ],
)
async def test_a_move_that_cannot_be_right_raises_and_changes_nothing(store: Store, fields: dict[str, object]) -> None:
    call = await admitted(store)
    with pytest.raises(ValueError, match=r".+"):
        await one(store, Move(call.id, actor="me", fence=1, **fields))
    assert await store.get_call(call.id) == call
    assert len(await store.journal(call.id)) == 1


async def test_a_queued_call_may_be_parked_again(store: Store, clock: Clock) -> None:
    call = await parked(store)
    await one(store, approve(call.approval_id))
    approval = new_approval()
    again = await moved(store, call, Event.PARK, approval=approval, note="asked again")
    assert (again.state, again.approval_id, again.execute_by) == (State.WAITING_FOR_APPROVAL, approval.id, None)
    assert await store.get_call(call.id) == again
    first = await store.get_approval(call.approval_id)
    assert first is not None
    assert first.status is ApprovalStatus.APPROVED
    (pending,) = (await store.list_approvals(ApprovalStatus.PENDING, 10)).items
    assert pending.id == approval.id


@pytest.mark.parametrize(
    ("event", "outcome", "status"),
    [
        (Event.CANCEL, WITHDRAWN, ApprovalStatus.CANCELLED),
        (Event.DENY, DENIED, ApprovalStatus.CANCELLED),
        (Event.FAIL, BROKEN, ApprovalStatus.CANCELLED),
        (Event.EXPIRE, WITHDRAWN, ApprovalStatus.EXPIRED),
    ],
)
async def test_a_call_that_stops_waiting_takes_its_approval_with_it(
    store: Store, clock: Clock, event: Event, outcome: Outcome, status: ApprovalStatus
) -> None:
    call = await parked(store)
    await moved(store, call, event, outcome=outcome)
    approval = await store.get_approval(call.approval_id)
    assert approval is not None
    assert (approval.status, approval.decided_at) == (status, clock.now)


# --- verdicts ---------------------------------------------------------------------------------------------------


async def test_an_approval_queues_the_call_for_a_limited_time(store: Store, clock: Clock) -> None:
    call = await parked(store)
    result = await one(store, approve(call.approval_id, comment="go"))
    assert isinstance(result, Decided)
    assert (result.call.state, result.call.execute_by) == (State.QUEUED, clock.now + 900.0)
    assert (result.approval.status, result.approval.decided_at) == (ApprovalStatus.APPROVED, clock.now)
    assert [(v.principal, v.kind, v.comment, v.roles) for v in result.approval.verdicts] == [
        ("alice", VerdictKind.APPROVE, "go", APPROVER)
    ]
    assert await store.get_approval(call.approval_id) == result.approval
    assert await store.get_call(call.id) == result.call
    entry = (await store.journal(call.id))[-1]
    assert (entry.event, entry.actor, entry.detail["comment"]) == (Event.APPROVE, "alice", "go")


async def test_a_rejection_fails_the_call_with_the_comment(store: Store) -> None:
    call = await parked(store)
    result = await one(store, reject(call.approval_id))
    assert isinstance(result, Decided)
    assert (result.call.state, result.approval.status) == (State.FAILED, ApprovalStatus.REJECTED)
    assert result.call.outcome == Outcome(OutcomeKind.REJECTED, {"message": "too much"})
    assert await store.get_call(call.id) == result.call


async def test_a_quorum_of_two_needs_two_people(store: Store) -> None:
    call = await parked(store, requirements=(requirement(min_verdicts=2),))
    first = await one(store, approve(call.approval_id))
    assert isinstance(first, Decided)
    assert (first.call, first.approval.status) == (call, ApprovalStatus.PENDING)
    again = await one(store, approve(call.approval_id))
    assert again == Undecidable(first.approval, "alice has already approved it.")
    second = await one(store, approve(call.approval_id, "bob"))
    assert isinstance(second, Decided)
    assert second.call.state is State.QUEUED
    assert [entry.event for entry in await store.journal(call.id)] == [Event.PARK, "verdict", Event.APPROVE]


@pytest.mark.parametrize(
    ("earlier", "reason"), [(approve, "alice already approved it."), (reject, "alice has already rejected it.")]
)
async def test_a_late_verdict_is_told_who_decided_and_how(store: Store, earlier, reason: str) -> None:
    call = await parked(store)
    decided = await one(store, earlier(call.approval_id))
    late = await one(store, reject(call.approval_id, "bob"))
    assert late == Undecidable(decided.approval, reason)
    assert await store.get_call(call.id) == decided.call


async def test_the_requester_cannot_decide(store: Store) -> None:
    call = await parked(store)
    for write in (approve(call.approval_id, "local"), reject(call.approval_id, "local")):
        result = await one(store, write)
        assert isinstance(result, Undecidable)
        assert "local asked for the call" in result.reason
    assert await store.get_call(call.id) == call


async def test_the_requester_may_decide_where_the_rule_says_so(store: Store) -> None:
    call = await parked(store, requirements=(requirement(prevent_self_review=False),))
    assert isinstance(await one(store, approve(call.approval_id, "local")), Decided)


async def test_a_verdict_without_a_fitting_role_is_not_counted(store: Store) -> None:
    call = await parked(store, requirements=(requirement(roles=frozenset({"finance"})),))
    result = await one(store, approve(call.approval_id))
    assert isinstance(result, Undecidable)
    assert result.reason.endswith("finance.")
    assert result.approval is not None
    assert result.approval.verdicts == ()


async def test_an_unknown_approval_cannot_be_decided(store: Store) -> None:
    assert await one(store, approve("nowhere")) == Undecidable(None, "There is no approval nowhere.")


async def test_an_expired_approval_cannot_be_decided_even_before_the_sweep(store: Store, clock: Clock) -> None:
    call = await parked(store)
    clock.advance(3600)
    result = await one(store, approve(call.approval_id))
    assert isinstance(result, Undecidable)
    assert result.reason == "It expired before enough people had decided."
    assert await store.get_call(call.id) == call


async def test_a_cancelled_approval_says_so(store: Store) -> None:
    call = await parked(store)
    await moved(store, call, Event.CANCEL, outcome=WITHDRAWN)
    result = await one(store, approve(call.approval_id))
    assert isinstance(result, Undecidable)
    assert result.reason == "It was cancelled: its call no longer waits for approval."


# --- upkeep -----------------------------------------------------------------------------------------------------


async def test_renewing_extends_the_leases_of_that_owner_alone(store: Store, clock: Clock) -> None:
    mine = await admitted(store)
    other = await admitted(store, lease=Lease("engine-2", 30.0))
    clock.advance(10)
    assert await one(store, Renew(LEASE)) == Count(1)
    renewed = await store.get_call(mine.id)
    assert renewed is not None
    assert renewed.lease_until == clock.now + 30.0
    assert await store.get_call(other.id) == other


async def test_a_move_of_what_nobody_holds_spares_what_somebody_was_given(store: Store) -> None:
    call = await admitted(store, event=Event.ADMIT)
    await one(store, Mark(call.id, handled=True))
    withdrawal = Move(call.id, Event.CANCEL, "local", call.fence, WITHDRAWN, unhandled=True)
    stale = await one(store, withdrawal)
    assert isinstance(stale, Stale)
    assert stale.call.state is State.QUEUED
    assert isinstance(await one(store, replace(withdrawal, unhandled=False)), Moved)


async def test_marks_are_set_and_never_unset(store: Store) -> None:
    call = await settled(store)
    await one(store, Mark(call.id, delivered=True))
    await one(store, Mark(call.id, handled=True))
    result = await one(store, Mark(call.id, cancel_requested=True))
    assert isinstance(result, Moved)
    assert (result.call.delivered, result.call.handled, result.call.cancel_requested) == (True, True, True)
    assert await store.get_call(call.id) == result.call


async def test_what_has_no_outcome_cannot_be_delivered(store: Store) -> None:
    call = await admitted(store)
    assert await one(store, Mark(call.id, delivered=True)) == Moved(call)


async def test_a_note_is_journaled_with_the_state_as_it_stands(store: Store) -> None:
    call = await admitted(store)
    assert await one(store, Note(call.id, "joined", "bob", {"by": "x"})) == Count(1)
    entry = (await store.journal(call.id))[-1]
    assert (entry.event, entry.state, entry.attempt, entry.actor) == ("joined", State.RUNNING, 1, "bob")
    assert entry.detail == {"by": "x"}
    assert await store.get_call(call.id) == call


async def test_journal_entries_are_ordered_across_calls(store: Store) -> None:
    first, second = await admitted(store), await admitted(store)
    await moved(store, first, Event.SETTLE, outcome=PAID)
    entries = [*await store.journal(first.id), *await store.journal(second.id)]
    assert len({entry.seq for entry in entries}) == 3
    assert entries[0].seq < entries[2].seq < entries[1].seq


# --- recovery ---------------------------------------------------------------------------------------------------


async def test_a_takeover_moves_what_others_ran_and_leaves_its_own(store: Store) -> None:
    lost = await admitted(store, lease=Lease("dead", 30))
    mine = await admitted(store)
    swept = await one(store, Recover(ENGINE, takeover=True))
    assert isinstance(swept, Swept)
    assert [(call.id, call.state, call.losses) for call in swept.calls] == [(lost.id, State.IN_DOUBT, 1)]
    assert await store.get_call(lost.id) == swept.calls[0]
    assert await store.get_call(mine.id) == mine
    entry = (await store.journal(lost.id))[-1]
    assert (entry.event, entry.detail["lost_owner"]) == (Event.LOSE, "dead")


async def test_without_takeover_only_lapsed_leases_are_recovered(store: Store, clock: Clock) -> None:
    lapsed = await admitted(store, lease=Lease("dead", 10))
    await admitted(store, lease=Lease("alive", 60))
    clock.advance(10)
    swept = await one(store, Recover(ENGINE, takeover=False))
    assert [call.id for call in swept.calls] == [lapsed.id]


async def test_a_retry_safe_call_is_queued_again_until_its_losses_are_used_up(store: Store) -> None:
    call = await admitted(store, new_call(retry_safe=True), lease=Lease("dead", 30))
    for losses in (1, 2):
        (again,) = (await one(store, Recover(ENGINE, takeover=True))).calls
        assert (again.state, again.losses, again.not_before) == (State.QUEUED, losses, None)
        await one(store, Claim(call.id, Lease("dead", 30)))
    (failed,) = (await one(store, Recover(ENGINE, takeover=True))).calls
    assert (failed.state, failed.losses) == (State.FAILED, 3)
    assert failed.outcome is not None
    assert (failed.outcome.kind, "3 times" in failed.outcome.message) == (OutcomeKind.ERROR, True)
    assert await store.get_call(call.id) == failed


async def test_what_waits_is_not_recovered(store: Store) -> None:
    for state in (State.QUEUED, State.WAITING_FOR_APPROVAL, State.WAITING_FOR_INPUT, State.IN_DOUBT, State.DONE):
        await in_state(store, state)
    assert await one(store, Recover(ENGINE, takeover=True)) == Swept(())


# --- time -------------------------------------------------------------------------------------------------------


async def test_an_undecided_approval_expires_and_fails_its_call(store: Store, clock: Clock) -> None:
    call = await parked(store)
    clock.advance(3599)
    assert await one(store, Expire()) == Swept(())
    clock.advance(1)
    (expired,) = (await one(store, Expire())).calls
    assert expired.state is State.FAILED
    assert expired.outcome == Outcome(
        OutcomeKind.EXPIRED, {"message": "Not enough people decided within 1 h, so it expired and was not run."}
    )
    approval = await store.get_approval(call.approval_id)
    assert approval is not None
    assert approval.status is ApprovalStatus.EXPIRED
    assert await store.get_call(call.id) == expired


async def test_an_approved_call_that_could_not_start_in_time_expires(store: Store, clock: Clock) -> None:
    call = await parked(store)
    await one(store, approve(call.approval_id))
    clock.advance(900)
    assert isinstance(await one(store, Claim(call.id, LEASE)), Stale)
    (expired,) = (await one(store, Expire())).calls
    assert "could not start within 15 min" in expired.outcome.message


async def test_an_approved_call_whose_attempt_was_not_sent_still_expires(store: Store, clock: Clock) -> None:
    call = await parked(store)
    await one(store, approve(call.approval_id))
    running = await claimed(store, call)
    await moved(store, running, Event.RETRY, sent=False)
    clock.advance(900)
    assert [each.id for each in (await one(store, Expire())).calls] == [call.id]


async def test_an_approved_call_that_was_sent_does_not_expire_in_a_retry(store: Store, clock: Clock) -> None:
    call = await parked(store)
    await one(store, approve(call.approval_id))
    await moved(store, await claimed(store, call), Event.RETRY)
    clock.advance(10_000)
    assert await one(store, Expire()) == Swept(())


@pytest.mark.parametrize("state", [State.QUEUED, State.WAITING_FOR_APPROVAL, State.WAITING_FOR_INPUT])
async def test_what_waits_past_its_deadline_expires(store: Store, clock: Clock, state: State) -> None:
    call = await in_state(store, state, deadline_s=60.0)
    clock.advance(60)
    (expired,) = (await one(store, Expire())).calls
    assert (expired.id, expired.state) == (call.id, State.FAILED)


@pytest.mark.parametrize("state", [State.RUNNING, State.IN_DOUBT, State.DONE])
async def test_what_runs_is_in_doubt_or_has_ended_never_expires(store: Store, clock: Clock, state: State) -> None:
    await in_state(store, state, deadline_s=60.0)
    clock.advance(1_000_000)
    assert await one(store, Expire()) == Swept(())
    assert await store.next_due_s() is None


async def test_an_answer_is_waited_for_as_long_as_the_move_says(store: Store, clock: Clock) -> None:
    call = await moved(store, await admitted(store), Event.ASK, delay_s=30.0, round=ROUND)
    assert await store.next_due_s() == 30.0
    clock.advance(30)
    assert [each.id for each in (await one(store, Expire())).calls] == [call.id]


async def test_a_sweep_stops_at_its_limit_and_goes_on_with_the_next(store: Store, clock: Clock) -> None:
    for _ in range(3):
        await admitted(store, new_call(deadline_s=1), Event.ADMIT)
    clock.advance(2)
    assert [len((await one(store, Expire(limit=2))).calls) for _ in range(3)] == [2, 1, 0]


async def test_runnable_lists_what_may_be_claimed_oldest_first(store: Store, clock: Clock) -> None:
    first = await admitted(store, event=Event.ADMIT)
    paused = await moved(store, await admitted(store), Event.RETRY, delay_s=10)
    await admitted(store, new_call(deadline_s=5), Event.ADMIT)
    last = await admitted(store, event=Event.ADMIT)
    clock.advance(5)
    assert await store.runnable(10) == (first, last)
    clock.advance(5)
    assert [call.id for call in await store.runnable(2)] == [first.id, paused.id]


async def test_of_a_full_downstream_only_calls_whose_task_is_watched_are_runnable(store: Store) -> None:
    await admitted(store, new_call(downstream="full"), Event.ADMIT)
    watched = await admitted(store, new_call(downstream="full"))
    await store.commit((Follow(watched.id, watched.fence, "full", RemoteTask("remote")),))
    watched = await moved(store, watched, Event.RETRY, sent=False)
    other = await admitted(store, new_call(downstream="other"), Event.ADMIT)
    assert [call.id for call in await store.runnable(10, {"full"})] == [watched.id, other.id]


async def test_next_due_is_the_earliest_pause_deadline_or_expiry(store: Store, clock: Clock) -> None:
    assert await store.next_due_s() is None
    await admitted(store, event=Event.ADMIT)
    assert await store.next_due_s() is None
    await parked(store)
    assert await store.next_due_s() == 3600.0
    await admitted(store, new_call(deadline_s=60.0), Event.ADMIT)
    assert await store.next_due_s() == 60.0
    await moved(store, await admitted(store), Event.RETRY, delay_s=4.0)
    assert await store.next_due_s() == 4.0
    clock.advance(61)
    assert await store.next_due_s() == 0.0


# --- retention --------------------------------------------------------------------------------------------------

SHORT = Retention(replay_s=10, tombstone_s=20, undispatched_s=1, payload_s=100, journal_s=1000)


async def test_payloads_go_first_and_rows_later(store: Store, clock: Clock) -> None:
    call = await settled(store)
    await settled(store)
    clock.advance(101)
    assert await one(store, Purge(SHORT)) == Count(2)
    emptied = await store.get_call(call.id)
    assert emptied is not None
    assert (emptied.arguments, emptied.outcome) == ({}, Outcome(OutcomeKind.RESULT, {}))
    assert await one(store, Purge(SHORT)) == Count(0)
    clock.advance(900)
    assert await one(store, Purge(SHORT)) == Count(1)
    assert await store.get_call(call.id) is None
    assert await store.journal(call.id) == ()


async def test_nothing_open_is_ever_purged(store: Store, clock: Clock) -> None:
    calls = [
        await in_state(store, state) for state in State if state not in (State.DONE, State.FAILED, State.CANCELLED)
    ]
    clock.advance(1e9)
    assert await one(store, Purge(SHORT)) == Count(0)
    assert [await store.get_call(call.id) for call in calls] == calls


async def test_a_payload_stays_while_its_key_replays_it(store: Store, clock: Clock) -> None:
    keep = replace(SHORT, payload_s=1)
    call = await settled(store, new_call(key="k"))
    clock.advance(5)
    assert await one(store, Purge(keep)) == Count(0)
    clock.advance(6)
    assert await one(store, Purge(keep)) == Count(1)
    assert (await store.get_call(call.id)).arguments == {}


async def test_a_call_stays_while_its_key_is_held(store: Store, clock: Clock) -> None:
    keep = replace(SHORT, payload_s=1, journal_s=2)
    call = await settled(store, new_call(key="k"))
    await settled(store)
    clock.advance(20)
    await one(store, Purge(keep))
    assert await store.get_call(call.id) is not None
    clock.advance(11)
    await one(store, Purge(keep))
    assert await store.get_call(call.id) is None


async def test_a_parked_and_decided_call_is_forgotten_with_its_approval(store: Store, clock: Clock) -> None:
    call = await parked(store)
    await one(store, reject(call.approval_id))
    await settled(store)
    clock.advance(1001)
    await one(store, Purge(SHORT))
    assert await store.get_call(call.id) is None
    assert await store.get_approval(call.approval_id) is None


async def test_journal_numbers_are_never_used_twice(store: Store, clock: Clock) -> None:
    last = (await store.journal((await settled(store)).id))[-1].seq
    clock.advance(1001)
    await one(store, Purge(SHORT))
    call = await admitted(store)
    assert (await store.journal(call.id))[0].seq > last


async def test_a_purge_stops_at_its_limit(store: Store, clock: Clock) -> None:
    for _ in range(5):
        await settled(store)
    clock.advance(101)
    assert [await one(store, Purge(SHORT, limit=2)) for _ in range(4)] == [Count(2), Count(2), Count(1), Count(0)]


# --- lists ------------------------------------------------------------------------------------------------------


async def pages_of_calls(store: Store, match: CallFilter, limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        page = await store.list_calls(match, limit, cursor)
        pages.append([call.id for call in page.items])
        cursor = page.cursor
        if cursor is None:
            return pages


async def test_calls_are_listed_newest_first_page_by_page(store: Store) -> None:
    ids = [(await admitted(store)).id for _ in range(5)]
    newest_first = ids[::-1]
    assert await pages_of_calls(store, CallFilter(), 2) == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    assert await pages_of_calls(store, CallFilter(), 5) == [newest_first]


async def test_a_page_is_not_disturbed_by_newer_calls(store: Store) -> None:
    ids = [(await admitted(store)).id for _ in range(4)]
    first = await store.list_calls(CallFilter(), 2)
    await admitted(store)
    second = await store.list_calls(CallFilter(), 2, first.cursor)
    assert [call.id for call in (*first.items, *second.items)] == ids[::-1]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_every_filter_gives_what_it_names_and_nothing_else(store: Store, limit: int) -> None:
    calls = []
    for number, state in enumerate([*State, *State]):
        fields = {"run": f"run-{number % 3}", "tool": f"tool-{number % 2}", "principal": f"p{number % 2}"}
        calls.append(await in_state(store, state, **fields))
    calls.append(await admitted(store, new_call(id="own", run="own", tool="tool-0", principal="p0")))
    matches = [
        CallFilter(states=states, run=run, tool=tool, principal=principal, tenant=principal and "default")
        for states in (
            None,
            frozenset({State.DONE}),
            frozenset({State.QUEUED, State.FAILED}),
            frozenset({State.DONE, State.RUNNING}),
            frozenset(),
        )
        for run in (None, "run-1", "own")
        for tool in (None, "tool-0")
        for principal in (None, "p0")
    ]
    for match in matches:
        expected = [
            call.id
            for call in reversed(calls)
            if (match.states is None or call.state in match.states)
            and match.run in (None, call.run)
            and match.tool in (None, call.tool)
            and match.principal in (None, call.principal)
        ]
        pages = await pages_of_calls(store, match, limit)
        assert [call_id for page in pages for call_id in page] == expected, match
        assert all(len(page) == limit for page in pages[:-1])


async def test_approvals_are_listed_newest_first_by_status(store: Store) -> None:
    calls = [await parked(store) for _ in range(5)]
    await one(store, reject(calls[1].approval_id))
    pending = [call.approval_id for call in reversed(calls) if call is not calls[1]]
    first = await store.list_approvals(ApprovalStatus.PENDING, 3)
    second = await store.list_approvals(ApprovalStatus.PENDING, 3, first.cursor)
    assert [item.id for item in (*first.items, *second.items)] == pending
    assert second.cursor is None
    assert [item.id for item in (await store.list_approvals(None, 10)).items] == [
        call.approval_id for call in reversed(calls)
    ]
    (rejected,) = (await store.list_approvals(ApprovalStatus.REJECTED, 10)).items
    assert rejected == await store.get_approval(calls[1].approval_id)


async def test_approvals_are_listed_of_one_tenant(store: Store) -> None:
    ours, theirs = [], []
    for _ in range(3):
        ours.append((await admitted(store, new_call(tenant="ours"), Event.PARK)).approval_id)
        theirs.append((await admitted(store, new_call(tenant="theirs"), Event.PARK)).approval_id)
    for status in (None, ApprovalStatus.PENDING):
        first = await store.list_approvals(status, 2, tenant="ours")
        second = await store.list_approvals(status, 2, first.cursor, tenant="ours")
        assert [item.id for item in (*first.items, *second.items)] == ours[::-1]


async def test_a_foreign_cursor_is_refused(store: Store) -> None:
    for _ in range(2):
        await parked(store)
    calls = (await store.list_calls(CallFilter(), 1)).cursor
    approvals = (await store.list_approvals(None, 1)).cursor
    for cursor in (approvals, "", "garbage", "Y2FsbHM6MA==", "ü"):
        with pytest.raises(ValueError, match="cursor"):
            await store.list_calls(CallFilter(), 1, cursor)
    with pytest.raises(ValueError, match="cursor"):
        await store.list_approvals(None, 1, calls)


async def test_a_page_holds_at_least_one(store: Store) -> None:
    with pytest.raises(ValueError, match="limit"):
        await store.list_calls(CallFilter(), 0)
    with pytest.raises(ValueError, match="limit"):
        await store.list_approvals(None, 0)


# --- the rest ---------------------------------------------------------------------------------------------------


async def test_catalogs_are_kept_as_last_seen(store: Store, clock: Clock) -> None:
    first = CatalogRecord("git", "i1", "2025-11-25", ({"name": "git_log"},), 0.0)
    second = CatalogRecord("git", "i2", "2026-07-28", ({"name": "git_log"}, {"name": "git_diff"}), 0.0, "Use git.")
    besides = ConditionalTools({"elicitation": {"form": {}}}, ({"name": "ask"},), "digest")
    other = CatalogRecord("time", "i3", "2025-11-25", (), 0.0, conditional=(besides,))
    for record in (first, second, other):
        assert await one(store, SaveCatalog(record)) == Count(1)
    assert await store.catalogs() == (replace(second, seen_at=clock.now), replace(other, seen_at=clock.now))


async def test_health_counts_what_is_there(store: Store) -> None:
    await parked(store)
    await settled(store)
    health = await store.health(deep=True)
    assert health.calls_by_state == {State.WAITING_FOR_APPROVAL: 1, State.DONE: 1}
    assert (health.pending_approvals, health.journal_entries, health.problems) == (1, 3, ())
    assert health.size_bytes > 0


async def test_results_come_in_the_order_of_the_writes(store: Store) -> None:
    new = new_call()
    results = await store.commit(
        [
            Admit(new, Event.ADMIT),
            Claim(new.id, LEASE),
            Move(new.id, Event.SETTLE, "payments", fence=7, outcome=PAID),
            Move(new.id, Event.SETTLE, "payments", fence=1, outcome=PAID),
        ]
    )
    assert [type(result) for result in results] == [Accepted, Moved, Stale, Moved]
    assert await store.get_call(new.id) == results[3].call


async def test_no_writes_give_no_results(store: Store) -> None:
    assert list(await store.commit([])) == []


async def test_what_is_not_there_reads_as_none(store: Store) -> None:
    assert await store.get_call(new_id()) is None
    assert await store.get_approval(new_id()) is None
    assert await store.journal(new_id()) == ()
