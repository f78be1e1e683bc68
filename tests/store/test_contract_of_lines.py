"""Calls of one line run one at a time, in the order in which they joined it: what every backend promises of that."""

import asyncio
from dataclasses import replace

from store_builders import (
    BROKEN,
    LEASE,
    PAID,
    ROUND,
    WITHDRAWN,
    Clock,
    admitted,
    claimed,
    moved,
    new_approval,
    new_call,
    one,
)

from holdfast_store.contract import (
    Accepted,
    Admit,
    Answer,
    Claim,
    Decide,
    Expire,
    Follow,
    Joined,
    Lease,
    Move,
    Moved,
    Recover,
    Stale,
    Store,
    Swept,
)
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Json, RemoteTask, VerdictKind

APPROVER = frozenset({"approver"})


def start(line: str | None = "a", **fields: object) -> Admit:
    """An admission that claims its call at once, where nobody is before it."""
    return Admit(new_call(line=line, **fields), Event.START, lease=LEASE)


async def started(store: Store, line: str | None = "a", **fields: object) -> Call:
    result = await one(store, start(line, **fields))
    assert isinstance(result, Accepted), result
    return result.call


async def parked(store: Store, line: str = "a") -> Call:
    return await admitted(store, new_call(line=line), Event.PARK)


async def approved(store: Store, call: Call) -> None:
    assert call.approval_id is not None
    await one(store, Decide(call.approval_id, "alice", APPROVER, VerdictKind.APPROVE))


async def runnable(store: Store) -> list[str]:
    return [call.id for call in await store.runnable(10)]


async def detail_of(store: Store, call: Call, event: str) -> Json:
    (entry,) = [entry for entry in await store.journal(call.id) if entry.event == event]
    return entry.detail


async def refuses(store: Store, call: Call) -> bool:
    """Whether a claim of the call changes nothing."""
    before = await store.get_call(call.id)
    result = await one(store, Claim(call.id, LEASE))
    return isinstance(result, Stale) and result.call == before


async def test_the_first_of_a_line_starts_at_once_and_the_next_is_queued_behind_it(store: Store) -> None:
    first, second = await one(store, start()), await one(store, start())
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert (first.call.state, first.behind) == (State.RUNNING, None)
    assert (second.call.state, second.behind) == (State.QUEUED, first.call.id)
    assert (second.call.fence, second.call.lease_owner) == (0, None)
    assert await detail_of(store, second.call, "admit") == {"waits_for_call": first.call.id}


async def test_of_two_that_start_in_one_commit_one_waits(store: Store) -> None:
    results = await store.commit([start(), start()])
    assert [isinstance(r, Accepted) and r.call.state for r in results] == [State.RUNNING, State.QUEUED]


async def test_of_many_that_start_at_once_one_runs(store: Store) -> None:
    results = await asyncio.gather(*(one(store, start()) for _ in range(20)))
    states = [result.call.state for result in results if isinstance(result, Accepted)]
    assert (len(states), states.count(State.RUNNING)) == (20, 1)


async def test_no_claim_passes_who_is_before_it(store: Store) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    assert await refuses(store, second)
    assert await runnable(store) == []
    await moved(store, first, Event.SETTLE, outcome=PAID)
    assert await refuses(store, third)
    assert await runnable(store) == [second.id]
    assert (await claimed(store, second)).state is State.RUNNING
    assert await refuses(store, third)


async def test_of_two_engines_only_one_gets_the_next_of_a_line(store: Store) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    await moved(store, first, Event.SETTLE, outcome=PAID)
    claims = [Claim(call.id, Lease(owner, 30.0)) for owner in ("one", "two") for call in (third, second)]
    results = await asyncio.gather(*(one(store, claim) for claim in claims))
    assert [isinstance(result, Moved) for result in results].count(True) == 1
    assert (await store.get_call(third.id)) == third


async def test_other_lines_and_calls_without_one_do_not_wait(store: Store) -> None:
    await started(store, "a")
    assert [(await started(store, line)).state for line in ("b", None, None)] == [State.RUNNING] * 3


async def test_a_call_that_may_not_wait_is_not_taken_in(store: Store) -> None:
    alone = await one(store, replace(start(), may_wait=False))
    assert isinstance(alone, Accepted)
    write = replace(start(key="k"), may_wait=False)
    assert await one(store, write) == Stale(None)
    assert await store.get_call(write.call.id) is None
    assert await store.find_key("default", "local", "payments", "refund", "k") is None


async def test_a_repeat_joins_whoever_waits_in_the_line(store: Store) -> None:
    await started(store)
    waiting = await started(store, key="k")
    assert await one(store, replace(start(key="k"), may_wait=False)) == Joined(waiting)


async def test_a_call_holds_its_line_through_pauses_rounds_and_remote_tasks(store: Store, clock: Clock) -> None:
    first, second = await started(store, retry_safe=True), await started(store)
    first = await moved(store, first, Event.RETRY, delay_s=5.0)
    assert await runnable(store) == []
    assert await refuses(store, second)
    clock.advance(5.0)
    assert await runnable(store) == [first.id]
    first = await claimed(store, first)
    first = await moved(store, first, Event.ASK, round=ROUND)
    assert await refuses(store, second)
    await one(store, Answer(first.id, 1, "local", {"name": "Zoë"}))
    assert await runnable(store) == [first.id]
    first = await claimed(store, first)
    await one(store, Follow(first.id, first.fence, "payments", RemoteTask("t1")))
    (swept,) = await store.commit([Recover("another", takeover=True)])
    assert isinstance(swept, Swept)
    assert [call.state for call in swept.calls] == [State.QUEUED]
    assert await runnable(store) == [first.id]
    assert await refuses(store, second)


async def test_whatever_ends_a_call_lets_the_next_go(store: Store) -> None:
    ends = {Event.SETTLE: PAID, Event.FAIL: BROKEN, Event.CANCEL: WITHDRAWN}
    first = await started(store)
    for event, outcome in ends.items():
        second = await started(store)
        await moved(store, first, event, outcome=outcome)
        assert await runnable(store) == [second.id]
        first = await claimed(store, second)


async def test_a_call_in_doubt_does_not_hold_its_line(store: Store) -> None:
    first, second = await started(store), await started(store)
    lost = await moved(store, first, Event.LOSE, lost=True)
    assert lost.ticket is None
    assert await runnable(store) == [second.id]


async def test_a_retry_of_what_was_in_doubt_joins_the_end(store: Store) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    await moved(store, first, Event.LOSE, lost=True)
    first = await moved(store, first, Event.RESOLVE_RETRY)
    assert await detail_of(store, first, "resolve_retry") == {"waits_for_call": third.id}
    for call in (second, third, first):
        assert await runnable(store) == [call.id]
        await moved(store, await claimed(store, call), Event.SETTLE, outcome=PAID)


async def test_late_evidence_of_a_retry_that_waits_lets_nobody_pass(store: Store) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    await moved(store, first, Event.LOSE, lost=True)
    first = await moved(store, first, Event.RESOLVE_RETRY)
    await claimed(store, second)
    await moved(store, first, Event.EVIDENCE_DONE, outcome=PAID)
    assert await runnable(store) == []
    assert await refuses(store, third)


async def test_a_parked_call_does_not_hold_the_line_and_approval_is_when_it_joins(store: Store) -> None:
    asked_first, asked_second = await parked(store), await parked(store)
    running = await started(store)
    assert (asked_first.ticket, running.state) == (None, State.RUNNING)
    await approved(store, asked_second)
    await approved(store, asked_first)
    assert (await detail_of(store, asked_second, "approve"))["waits_for_call"] == running.id
    await moved(store, running, Event.SETTLE, outcome=PAID)
    assert await runnable(store) == [asked_second.id]


async def test_a_queued_call_that_is_parked_again_leaves_the_line(store: Store) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    await moved(store, second, Event.PARK, approval=new_approval())
    await moved(store, first, Event.SETTLE, outcome=PAID)
    assert await runnable(store) == [third.id]


async def test_the_journal_says_whose_turn_has_come_and_how_long_it_waited(store: Store, clock: Clock) -> None:
    first, second, third = [await started(store) for _ in range(3)]
    clock.advance(1.5)
    await moved(store, second, Event.CANCEL, outcome=WITHDRAWN)
    await moved(store, first, Event.SETTLE, outcome=PAID)
    assert await detail_of(store, third, "next_in_line") == {"waited_for_call": first.id, "waited_s": 1.5}
    assert [entry.event for entry in await store.journal(second.id)] == ["admit", "cancel"]


async def test_who_was_never_behind_anybody_has_no_such_entry(store: Store) -> None:
    only = await started(store)
    await moved(store, only, Event.SETTLE, outcome=PAID)
    assert [entry.event for entry in await store.journal(only.id)] == ["start", "settle"]


async def test_a_call_that_runs_out_of_time_in_its_line_says_who_was_before_it(store: Store, clock: Clock) -> None:
    asked = await parked(store)
    first, second = await started(store), await started(store, deadline_s=60.0)
    await approved(store, asked)
    clock.advance(1000.0)
    (swept,) = await store.commit([Expire()])
    assert isinstance(swept, Swept)
    behind = f"call {first.id} was before it in its line."
    assert {call.id: call.outcome and call.outcome.message for call in swept.calls} == {
        second.id: f"Its deadline passed before it could start: {behind}",
        asked.id: f"It was approved, but could not start within 15 min, so it was not run: {behind}",
    }


async def test_an_engine_that_died_leaves_the_line_to_the_next(store: Store) -> None:
    first, second = await started(store), await started(store)
    await store.commit([Recover("another", takeover=True)])
    left = await store.get_call(first.id)
    assert left is not None
    assert left.state is State.IN_DOUBT
    assert await runnable(store) == [second.id]


async def test_a_line_that_was_empty_begins_anew(store: Store) -> None:
    for _ in range(3):
        call = await started(store)
        assert (call.state, call.ticket) == (State.RUNNING, 1)
        await moved(store, call, Event.SETTLE, outcome=PAID)


async def test_a_write_that_does_not_apply_leaves_the_line_as_it_was(store: Store) -> None:
    first, second = await started(store), await started(store)
    stale = await one(store, Move(first.id, Event.SETTLE, "payments", fence=7, outcome=PAID))
    assert isinstance(stale, Stale)
    assert stale.call == first
    assert await refuses(store, second)
