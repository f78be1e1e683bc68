"""The lifecycle table, walked in full: each row moves a call, and nothing that is not a row does."""

from typing import Any

import pytest
from store_builders import BROKEN, LEASE, PAID, ROUND, attached, in_state, new_approval, new_call, one

from holdfast_store.contract import Accepted, Admit, Answer, Claim, Move, Moved, Stale, Store, Write
from holdfast_store.model.lifecycle import (
    TERMINAL,
    TRANSITIONS,
    Event,
    State,
    Transition,
    diagram,
    transition,
)
from holdfast_store.model.values import Call, Outcome, OutcomeKind

EXISTING = [row for row in TRANSITIONS if row.source is not None]
ENTRIES = [row for row in TRANSITIONS if row.source is None]
ANSWERED = (Event.ANSWER, Event.CONTINUE)
BY_MOVE = [event for event in Event if event is not Event.CLAIM and event not in ANSWERED]
NO_ROW = [(event, state) for state in State for event in Event if transition(event, state) is None]


def edge(row: Transition) -> str:
    return f"{row.source}-{row.event}"


def write_for(event: Event, call: Call, target: State | None, fence: int | None) -> Write:
    if event is Event.CLAIM:
        return Claim(call.id, LEASE)
    if event in ANSWERED:
        return Answer(call.id, ROUND.number, "tester", {"name": {"action": "accept"}})
    given: dict[str, Any] = {}
    if target in TERMINAL:
        given["outcome"] = PAID if target is State.DONE else BROKEN
    if target is State.WAITING_FOR_APPROVAL:
        given["approval"] = new_approval()
    if target is State.WAITING_FOR_INPUT:
        given["round"] = ROUND
    return Move(call.id, event, "tester", fence=fence, **given)


@pytest.mark.parametrize("row", EXISTING, ids=edge)
async def test_each_row_moves_a_call_and_journals_it_once(store: Store, row: Transition) -> None:
    assert row.source is not None
    call = await attached(store) if row.event is Event.CONTINUE else await in_state(store, row.source)
    before = await store.journal(call.id)
    result = await one(store, write_for(row.event, call, row.target, call.fence if row.fenced else None))
    assert isinstance(result, Moved)
    assert result.call.state is row.target
    assert result.call.ended is (row.target in TERMINAL)
    assert await store.get_call(call.id) == result.call
    entries = await store.journal(call.id)
    assert entries[: len(before)] == before
    assert [(e.event, e.state, e.attempt) for e in entries[len(before) :]] == [
        (row.event, row.target, result.call.fence)
    ]


@pytest.mark.parametrize(("event", "state"), [edge for edge in NO_ROW if edge[0] in BY_MOVE])
async def test_what_is_not_a_row_is_stale_and_leaves_call_and_journal_untouched(
    store: Store, event: Event, state: State
) -> None:
    call = await in_state(store, state)
    before = await store.journal(call.id)
    for outcome in (None, BROKEN):
        assert await one(store, Move(call.id, event, "tester", fence=call.fence, outcome=outcome)) == Stale(call)
    assert await store.get_call(call.id) == call
    assert await store.journal(call.id) == before


@pytest.mark.parametrize("state", [state for state in State if state is not State.WAITING_FOR_INPUT])
async def test_only_a_call_that_waits_for_input_can_be_answered(store: Store, state: State) -> None:
    call = await in_state(store, state)
    before = await store.journal(call.id)
    assert await one(store, Answer(call.id, ROUND.number, "tester", {}, final=True)) == Stale(call)
    assert await store.get_call(call.id) == call
    assert await store.journal(call.id) == before


@pytest.mark.parametrize("event", [Event.CLAIM, *ANSWERED])
async def test_what_needs_more_than_a_move_is_not_done_by_one(store: Store, event: Event) -> None:
    call = await in_state(store, State.QUEUED)
    with pytest.raises(ValueError, match="which carries"):
        await one(store, Move(call.id, event, "tester"))


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
async def test_only_a_queued_call_can_be_claimed(store: Store, state: State) -> None:
    call = await in_state(store, state)
    before = await store.journal(call.id)
    assert await one(store, Claim(call.id, LEASE)) == Stale(call)
    assert await store.get_call(call.id) == call
    assert await store.journal(call.id) == before


@pytest.mark.parametrize("row", [row for row in EXISTING if row.fenced], ids=edge)
@pytest.mark.parametrize("fence", [None, 0, 7])
async def test_a_fenced_row_needs_the_current_fence(store: Store, row: Transition, fence: int | None) -> None:
    assert row.source is not None
    call = await in_state(store, State.RUNNING)
    if row.source is State.QUEUED:
        call = await _moved(store, call, Event.RETRY)
    if row.source is State.IN_DOUBT:
        call = await _moved(store, call, Event.LOSE)
    if row.source is State.WAITING_FOR_INPUT:
        call = await attached(store)
    before = await store.journal(call.id)
    assert await one(store, write_for(row.event, call, row.target, fence)) == Stale(call)
    assert await store.get_call(call.id) == call
    assert await store.journal(call.id) == before


async def _moved(store: Store, call: Call, event: Event) -> Call:
    result = await one(store, Move(call.id, event, "tester", fence=call.fence))
    assert isinstance(result, Moved)
    return result.call


@pytest.mark.parametrize("row", ENTRIES, ids=edge)
async def test_each_entry_row_admits_a_call(store: Store, row: Transition) -> None:
    write = Admit(
        new_call(),
        row.event,
        lease=LEASE if row.target is State.RUNNING else None,
        approval=new_approval() if row.target is State.WAITING_FOR_APPROVAL else None,
        outcome=Outcome(OutcomeKind.DENIED, {"message": "no"}) if row.target in TERMINAL else None,
    )
    result = await one(store, write)
    assert isinstance(result, Accepted)
    assert result.call.state is row.target
    assert await store.get_call(result.call.id) == result.call
    assert [(e.event, e.state) for e in await store.journal(result.call.id)] == [(row.event, row.target)]


@pytest.mark.parametrize("event", [event for event in Event if transition(event, None) is None])
async def test_no_other_event_admits_a_call(store: Store, event: Event) -> None:
    write = Admit(new_call(), event)
    with pytest.raises(ValueError, match="cannot be admitted"):
        await one(store, write)
    assert await store.get_call(write.call.id) is None


def test_an_event_leads_from_a_state_to_one_state() -> None:
    assert len({(row.event, row.source) for row in TRANSITIONS}) == len(TRANSITIONS)


def test_the_terminal_states_are_those_that_nothing_leaves() -> None:
    assert frozenset({State.DONE, State.FAILED, State.CANCELLED}) == TERMINAL


def test_every_state_is_reached_and_every_event_used() -> None:
    assert {row.target for row in TRANSITIONS} == set(State)
    assert {row.event for row in TRANSITIONS} == set(Event)


def test_whatever_an_attempt_settles_or_loses_is_fenced() -> None:
    assert all(row.fenced for row in TRANSITIONS if row.source is State.RUNNING)
    assert all(row.fenced for row in TRANSITIONS if row.event in (Event.EVIDENCE_DONE, Event.EVIDENCE_FAILED))


def test_a_call_in_doubt_is_ended_only_by_an_admin_or_by_evidence() -> None:
    allowed = {
        Event.RESOLVE_DONE,
        Event.RESOLVE_FAILED,
        Event.RESOLVE_RETRY,
        Event.EVIDENCE_DONE,
        Event.EVIDENCE_FAILED,
    }
    assert {row.event for row in TRANSITIONS if row.source is State.IN_DOUBT} == allowed


def test_each_row_of_the_table_is_found_by_its_event_and_its_source() -> None:
    for row in TRANSITIONS:
        assert transition(row.event, row.source) is row


def test_the_diagram_draws_each_row_once_and_ends_each_terminal_state() -> None:
    first, *lines = diagram().splitlines()
    assert first == "stateDiagram-v2"
    arrows = [f"    {row.source or '[*]'} --> {row.target}: {row.event}" for row in TRANSITIONS]
    ends = [f"    {state} --> [*]" for state in State if state in TERMINAL]
    assert lines == arrows + ends
