"""Answer and Follow: what comes to a call in the midst of its life, from its requester and from its downstream."""

from collections.abc import Mapping
from dataclasses import replace

from holdfast_store.contract import Answer, Follow, Moved, Stale
from holdfast_store.model.lifecycle import Event, State, transition
from holdfast_store.model.values import Call, Json, Round
from holdfast_store.sqlite.advance import Step, advance, attach
from holdfast_store.sqlite.rows import STATES, Found, call_from
from holdfast_store.sqlite.transaction import Transaction


def answer(tx: Transaction, write: Answer) -> Moved | Stale:
    """Keep the answers of the round, and move the call on once it is answered."""
    found = tx.find(write.call_id)
    call = None if found is None else call_from(found)
    if found is None or call is None or call.round is None or not _waits_for(found, write.number, tx.now):
        return Stale(call)
    missing = call.round.unanswered
    given = {k: v for k, v in write.answers.items() if k in missing or (write.final and k not in call.round.requests)}
    answered = replace(call.round, answers={**call.round.answers, **given})
    client = call.client if write.client is None else write.client
    if write.final or not answered.unanswered:
        return _answered(tx, write, found, answered, client)
    return Moved(_partly_answered(tx, write, found, answered, client, given) if given else call)


def _waits_for(found: Found, number: int, now: float) -> bool:
    overdue = found.due_at is not None and found.due_at <= now
    return is_open(found, number) and not overdue


def _answered(tx: Transaction, write: Answer, found: Found, answered: Round, client: Json | None) -> Moved | Stale:
    event = Event.CONTINUE if answered.attached else Event.ANSWER
    row = transition(event, STATES[found.state])
    if row is None:
        return Stale(call_from(found))
    changes: dict[str, object] = {"round": answered, "client": client}
    if answered.attached:
        changes |= {"lease_owner": found.lease_owner, "lease_until": found.lease_until}
    due_at = None if answered.attached or found.remote_task is not None else found.deadline_at
    call = advance(tx, Step(found, row, found.fence, write.actor, {"round": answered.number}, changes, due_at))
    return Stale(call_from(found)) if call is None else Moved(call)


def _partly_answered(
    tx: Transaction, write: Answer, found: Found, answered: Round, client: Json | None, given: Json
) -> Call:
    call = call_from(found, round=answered, client=client)
    attach(tx, found.seq, call)
    detail = {"round": answered.number, "keys": sorted(given)}
    tx.append(found.seq, "answered", found.state, found.fence, write.actor, detail)
    return call


def follow(tx: Transaction, write: Follow) -> Moved | Stale:
    """Keep the downstream's own task of a running attempt."""
    found = tx.find(write.call_id)
    if found is None:
        return Stale(None)
    if STATES[found.state] is not State.RUNNING or found.fence != write.fence:
        return Stale(call_from(found))
    before = call_from(found).remote_task
    call = call_from(found, remote_task=write.task)
    attach(tx, found.seq, call)
    if before is None or before.id != write.task.id:
        tx.append(found.seq, "follow", found.state, found.fence, write.actor, {"task": write.task.id})
    return Moved(call)


def is_open(found: Found, number: int) -> bool:
    """Whether the call waits for answers to its round of that number."""
    asked = call_from(found).round if STATES[found.state] is State.WAITING_FOR_INPUT else None
    return asked is not None and asked.number == number


def for_next_attempt(found: Found, *, over: bool) -> Mapping[str, object]:
    """What a call that is queued again no longer has.

    A round that was attached ended with its attempt: only its number stays, so that no number is used twice. Where
    the attempt is `over`, so is the task that the downstream made of it.
    """
    if found.round is None and found.remote_task is None:
        return {}
    call = call_from(found)
    changes: dict[str, object] = {}
    if call.round is not None and call.round.attached:
        changes["round"] = Round(call.round.number)
    if over and call.remote_task is not None:
        changes["remote_task"] = None
    return changes
