"""Rounds of input and remote tasks: kept with their call, consumed once, and taken over with it."""

from dataclasses import replace
from typing import Any

import pytest
from store_builders import (
    ENGINE,
    LEASE,
    PAID,
    Clock,
    admitted,
    attached,
    claimed,
    in_state,
    moved,
    new_call,
    one,
)

from holdfast_store.contract import (
    Accepted,
    Admit,
    Answer,
    Count,
    Dedupe,
    Expire,
    Follow,
    Joined,
    KeepSecret,
    Kept,
    Lease,
    Move,
    Moved,
    Purge,
    Purged,
    Recover,
    Renew,
    Replayed,
    Retention,
    Stale,
    Store,
    Swept,
)
from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import Call, Json, Outcome, OutcomeKind, RemoteTask, Round

NAME = {"action": "accept", "content": {"name": "Zoë"}}
AGE = {"action": "decline"}
TWO = Round(1, {"name": {"method": "elicitation/create"}, "age": {"method": "elicitation/create"}}, "opaque")


async def asked(store: Store, what: Round = TWO, **fields: Any) -> Call:
    return await moved(store, await admitted(store, **fields), Event.ASK, round=what)


async def answered(store: Store, call: Call, answers: Json, **fields: Any) -> Call:
    result = await one(store, Answer(call.id, 1, "local", answers, **fields))
    assert isinstance(result, Moved), result
    return result.call


async def test_what_was_asked_is_kept_with_the_call(store: Store) -> None:
    call = await asked(store)
    assert (call.state, call.round, call.lease_owner) == (State.WAITING_FOR_INPUT, TWO, None)
    assert await store.get_call(call.id) == call
    (*_, entry) = await store.journal(call.id)
    methods = {"name": "elicitation/create", "age": "elicitation/create"}
    assert entry.detail == {"round": 1, "asked": methods, "attached": False}


async def test_answers_may_come_one_by_one_and_the_last_queues_the_call(store: Store) -> None:
    call = await answered(store, await asked(store), {"name": NAME})
    assert (call.state, call.round.unanswered.keys()) == (State.WAITING_FOR_INPUT, {"age"})
    assert await store.get_call(call.id) == call
    call = await answered(store, call, {"age": AGE})
    assert (call.state, call.round.answers) == (State.QUEUED, {"name": NAME, "age": AGE})
    assert await store.runnable(10) == (call,)
    assert [str(entry.event) for entry in await store.journal(call.id)] == ["start", "ask", "answered", "answer"]


async def test_an_end_for_want_of_answers_counts_only_while_that_very_round_is_open(store: Store) -> None:
    call = await asked(store)
    end: dict[str, Any] = {"outcome": Outcome(OutcomeKind.ERROR, {"message": "no"}), "fence": call.fence}
    other = await one(store, Move(call.id, Event.FAIL, ENGINE, round_number=2, **end))
    assert isinstance(other, Stale)
    assert other.call == call
    queued = await answered(store, call, {"name": NAME, "age": AGE})
    late = await one(store, Move(call.id, Event.FAIL, ENGINE, round_number=1, **end))
    assert isinstance(late, Stale)
    assert late.call == queued
    again = await moved(store, await claimed(store, queued), Event.ASK, round=replace(TWO, number=2))
    ended = await one(store, Move(again.id, Event.FAIL, ENGINE, again.fence, end["outcome"], round_number=2))
    assert isinstance(ended, Moved)
    assert ended.call.state is State.FAILED


async def test_answers_to_what_was_not_asked_or_is_answered_change_nothing(store: Store) -> None:
    call = await answered(store, await asked(store), {"name": NAME})
    before = await store.journal(call.id)
    assert await answered(store, call, {"name": AGE, "size": NAME}) == call
    assert await store.journal(call.id) == before


async def test_final_answers_are_kept_as_they_came(store: Store) -> None:
    call = await answered(store, await asked(store), {"size": NAME}, final=True)
    assert (call.state, call.round.answers) == (State.QUEUED, {"size": NAME})


async def test_final_answers_leave_what_is_answered_already(store: Store) -> None:
    call = await answered(store, await asked(store), {"name": NAME})
    call = await answered(store, call, {"name": AGE, "age": AGE, "size": NAME}, final=True)
    assert (call.state, call.round.answers) == (State.QUEUED, {"name": NAME, "age": AGE, "size": NAME})


async def test_a_round_is_answered_once(store: Store) -> None:
    call = await answered(store, await asked(store), {}, final=True)
    assert await one(store, Answer(call.id, 1, "local", {"name": NAME}, final=True)) == Stale(call)
    call = await moved(store, await claimed(store, call), Event.ASK, round=replace(TWO, number=2))
    assert await one(store, Answer(call.id, 1, "local", {"name": NAME}, final=True)) == Stale(call)
    assert await store.get_call(call.id) == call


async def test_an_answer_after_its_time_is_too_late(store: Store, clock: Clock) -> None:
    call = await moved(store, await admitted(store), Event.ASK, round=TWO, delay_s=30.0)
    clock.advance(30)
    assert await one(store, Answer(call.id, 1, "local", {}, final=True)) == Stale(call)
    (ended,) = (await one(store, Expire())).calls
    assert ended.outcome.message == "payments asked for input before it went on, and nobody answered in time."


async def test_the_key_of_a_call_that_was_sent_and_asked_is_kept_beyond_its_expiry(store: Store, clock: Clock) -> None:
    call = await moved(store, await admitted(store, new_call(key="k")), Event.ASK, round=TWO, delay_s=30.0)
    clock.advance(30)
    await one(store, Expire())
    clock.advance(3600)
    assert isinstance(await one(store, Admit(new_call(key="k"), Event.START, lease=LEASE)), Replayed)
    found = await store.find_key(call.tenant, call.principal, call.downstream, call.original_name, "k")
    assert isinstance(found, Call)
    assert found.id == call.id


async def test_whoever_answers_may_have_changed_and_the_downstream_is_told_of_the_new_one(store: Store) -> None:
    call = await asked(store, call=new_call(client={"capabilities": {"elicitation": {}}}))
    assert call.client == {"capabilities": {"elicitation": {}}}
    call = await answered(store, call, {"name": NAME}, client={"capabilities": {"roots": {}}})
    assert call.client == {"capabilities": {"roots": {}}}
    assert await store.get_call(call.id) == call


async def test_answers_given_unasked_are_kept_from_the_beginning(store: Store) -> None:
    given = Round(0, answers={"name": NAME})
    call = await admitted(store, round=given)
    assert call.round == given
    assert await store.get_call(call.id) == call


async def test_a_call_that_asked_is_joined_by_no_repeat(store: Store, clock: Clock) -> None:
    await moved(store, await admitted(store, new_call(run="a")), Event.ASK, round=TWO, delay_s=30.0)
    clock.advance(10)
    again = await one(store, Admit(new_call(run="b"), Event.START, lease=LEASE, dedupe=Dedupe()))
    assert isinstance(again, Accepted)
    await moved(store, again.call, Event.ASK, round=TWO, delay_s=30.0)
    clock.advance(40)
    assert len((await one(store, Expire())).calls) == 2
    assert isinstance(await one(store, Admit(new_call(), Event.START, lease=LEASE, dedupe=Dedupe())), Accepted)


async def test_a_call_that_goes_on_after_its_answers_is_joined_by_a_repeat(store: Store, clock: Clock) -> None:
    call = await answered(store, await asked(store), {}, final=True)
    clock.advance(10)
    joined = await one(store, Admit(new_call(), Event.START, lease=LEASE, dedupe=Dedupe()))
    assert isinstance(joined, Joined)
    assert joined.call == call


async def test_an_attached_round_keeps_the_lease_and_goes_back_to_its_attempt(store: Store, clock: Clock) -> None:
    call = await attached(store)
    assert (call.state, call.lease_owner) == (State.WAITING_FOR_INPUT, ENGINE)
    clock.advance(20)
    assert await one(store, Renew(LEASE)) == Count(1)
    assert await one(store, Recover("other", takeover=False)) == Swept(())
    call = await answered(store, call, {"name": NAME})
    assert (call.state, call.fence, call.lease_owner) == (State.RUNNING, 1, ENGINE)
    assert call.lease_until == clock.now + LEASE.lease_s
    assert (await moved(store, call, Event.SETTLE, outcome=PAID)).round.answers == {"name": NAME}


@pytest.mark.parametrize("retry_safe", [False, True])
async def test_an_attached_round_dies_with_its_engine(store: Store, retry_safe: bool) -> None:
    call = await admitted(store, new_call(retry_safe=retry_safe))
    await moved(store, call, Event.ASK, round=replace(TWO, attached=True))
    (taken,) = (await one(store, Recover("other", takeover=True))).calls
    if retry_safe:
        assert (taken.state, taken.round, taken.losses) == (State.QUEUED, Round(1), 1)
    else:
        assert (taken.state, taken.losses) == (State.IN_DOUBT, 1)


async def test_a_round_whose_attempt_is_over_outlives_its_engine(store: Store) -> None:
    call = await asked(store)
    assert await one(store, Recover("other", takeover=True)) == Swept(())
    assert await store.get_call(call.id) == call


async def test_a_lost_attempt_with_answers_takes_them_along_when_it_is_tried_again(store: Store) -> None:
    call = await asked(store, call=new_call(retry_safe=True))
    call = await claimed(store, await answered(store, call, {"name": NAME}, final=True))
    call = await moved(store, call, Event.RETRY, lost=True)
    assert call.round == replace(TWO, answers={"name": NAME})


async def test_a_remote_task_is_watched_again_by_the_next_engine(store: Store) -> None:
    call = await admitted(store)
    task = RemoteTask("t-1", poll_s=0.5)
    result = await one(store, Follow(call.id, call.fence, "payments", task))
    assert isinstance(result, Moved)
    assert result.call.remote_task == task
    (taken,) = (await one(store, Recover("other", takeover=True))).calls
    assert (taken.state, taken.losses, taken.remote_task) == (State.QUEUED, 0, task)
    again = await claimed(store, taken)
    assert again.remote_task == task
    events = [str(entry.event) for entry in await store.journal(call.id)]
    assert events == ["start", "follow", "retry", "claim"]


async def test_a_remote_task_survives_its_own_questions(store: Store) -> None:
    call = await admitted(store)
    task = RemoteTask("t-1", answered=("name",))
    await one(store, Follow(call.id, call.fence, "payments", task))
    call = await moved(store, call, Event.ASK, round=TWO)
    assert (await answered(store, call, {}, final=True)).remote_task == task


async def test_a_remote_task_is_forgotten_with_its_attempt(store: Store) -> None:
    call = await admitted(store)
    await one(store, Follow(call.id, call.fence, "payments", RemoteTask("t-1")))
    assert (await moved(store, call, Event.RETRY)).remote_task is None


async def test_only_the_current_attempt_can_be_followed(store: Store) -> None:
    call = await in_state(store, State.RUNNING)
    assert await one(store, Follow(call.id, 7, "payments", RemoteTask("t"))) == Stale(call)
    done = await moved(store, call, Event.SETTLE, outcome=PAID)
    assert await one(store, Follow(call.id, done.fence, "payments", RemoteTask("t"))) == Stale(done)
    assert await one(store, Follow("nowhere", 1, "payments", RemoteTask("t"))) == Stale(None)


async def test_what_was_asked_and_answered_goes_with_the_payload(store: Store, clock: Clock) -> None:
    call = await answered(store, await asked(store, call=new_call(client={"info": {}})), {"name": NAME}, final=True)
    await moved(store, await claimed(store, call), Event.SETTLE, outcome=PAID)
    clock.advance(31 * 86400)
    await one(store, Purge(Retention()))
    purged = await store.get_call(call.id)
    assert (purged.round, purged.client) == (Round(1), None)


async def test_the_first_secret_of_a_name_stays(store: Store) -> None:
    assert await one(store, KeepSecret("seal", b"first")) == Kept(b"first")
    assert await one(store, KeepSecret("seal", b"second")) == Kept(b"first")
    assert await one(store, KeepSecret("other", b"second")) == Kept(b"second")


async def test_a_lease_that_ran_out_ends_an_attached_round(store: Store, clock: Clock) -> None:
    await attached(store)
    clock.advance(31)
    (taken,) = (await one(store, Recover("other", takeover=False))).calls
    assert taken.state is State.IN_DOUBT
    assert isinstance(await one(store, Renew(Lease("other", 30))), Count)


async def test_a_call_that_asks_in_the_midst_of_its_attempt_is_joined_by_a_repeat(store: Store, clock: Clock) -> None:
    call = await attached(store)
    clock.advance(10)
    joined = await one(store, Admit(new_call(), Event.START, lease=LEASE, dedupe=Dedupe()))
    assert isinstance(joined, Joined)
    assert joined.call == call


async def test_a_call_whose_remote_task_asks_or_was_left_so_is_joined_by_a_repeat(store: Store, clock: Clock) -> None:
    call = await admitted(store)
    await one(store, Follow(call.id, call.fence, "payments", RemoteTask("t-1")))
    await moved(store, call, Event.ASK, round=TWO, delay_s=30.0)
    for expired in (0, 1):
        clock.advance(20)
        assert len((await one(store, Expire())).calls) == expired
        joined = await one(store, Admit(new_call(), Event.START, lease=LEASE, dedupe=Dedupe()))
        assert isinstance(joined, Joined)
        assert joined.call.id == call.id


async def test_the_key_of_a_call_that_asked_is_kept_when_its_payload_is_gone(store: Store, clock: Clock) -> None:
    call = await moved(store, await admitted(store, new_call(key="k")), Event.ASK, round=TWO, delay_s=30.0)
    clock.advance(30)
    await one(store, Expire())
    clock.advance(31 * 86400)
    await one(store, Purge(Retention()))
    again = await one(store, Admit(new_call(key="k"), Event.START, lease=LEASE))
    assert isinstance(again, Purged)
    assert again.call_id == call.id


async def test_time_ends_no_call_that_is_queued_to_watch_its_remote_task(store: Store, clock: Clock) -> None:
    begun = [await admitted(store, new_call(deadline_s=60.0, arguments={"n": n})) for n in range(3)]
    for call in begun:
        await one(store, Follow(call.id, call.fence, "payments", RemoteTask("t-1")))
    recovered, put_back, told = begun
    await moved(store, put_back, Event.RETRY, sent=False)
    await moved(store, told, Event.ASK, round=TWO)
    await answered(store, told, {}, final=True)
    await one(store, Recover("other", takeover=True))
    clock.advance(90)
    assert await one(store, Expire()) == Swept(())
    for call in (recovered, put_back, told):
        assert (await claimed(store, call)).remote_task == RemoteTask("t-1")


async def test_a_call_whose_remote_task_cannot_be_watched_any_more_is_in_doubt(store: Store) -> None:
    call = await admitted(store)
    await one(store, Follow(call.id, call.fence, "payments", RemoteTask("t-1")))
    (queued,) = (await one(store, Recover("other", takeover=True))).calls
    assert (await moved(store, queued, Event.LOSE, note="it is gone")).losses == 1
