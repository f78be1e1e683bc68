"""Bugs to plant where a downstream asks, or makes a task of a call: answers taken twice, from strangers, or nowhere."""

from dataclasses import replace
from typing import Any

from simulation.mutants_of_the_store import applier, from_anywhere
from simulation.planting import Mutant, Patch

from holdfast_store.contract import Answer, Recover
from holdfast_store.model.errors import NotFound
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Principal
from holdfast_store.sqlite import rounds, sweep
from holdfast_store.sqlite.advance import attach
from holdfast_store.sqlite.rows import STATES, Found, call_from
from holdfast_store.sqlite.transaction import Transaction
from holdfast_tools import attempts
from holdfast_tools.catalog import Tool
from holdfast_tools.input_rounds import InputRounds
from holdfast_tools.operations import Operations
from holdfast_tools.questions import Questions
from holdfast_tools.remote.asking import Cancelled
from holdfast_tools.remote.watch import Watch
from holdfast_tools.request import CallRequest
from holdfast_tools.rounds import InvalidRequestState, Seal


def a_round_is_answered_twice() -> tuple[Patch, ...]:
    def is_open(found: Found, number: int) -> bool:
        asked = call_from(found).round
        return found.ended_at is None and asked is not None and asked.number == number

    return (rounds, "is_open", is_open), (rounds, "transition", from_anywhere)


def an_answer_overwrites_an_earlier_one() -> tuple[Patch, ...]:
    def overwrite(tx: Transaction, write: Answer) -> object:
        found = tx.find(write.call_id)
        call = None if found is None else call_from(found)
        if found is not None and call is not None and call.round is not None and rounds.is_open(found, write.number):
            left = {key: answer for key, answer in call.round.answers.items() if key not in write.answers}
            attach(tx, found.seq, replace(call, round=replace(call.round, answers=left)))
        return rounds.answer(tx, write)

    return (applier(Answer, overwrite),)


def an_answer_is_taken_for_any_round() -> tuple[Patch, ...]:
    def is_open(found: Found, number: int) -> bool:
        return STATES[found.state] is State.WAITING_FOR_INPUT

    return ((rounds, "is_open", is_open),)


def a_stranger_takes_up_a_round() -> tuple[Patch, ...]:
    async def named(
        self: InputRounds, request: CallRequest, tool: Tool, fingerprint: str, state: str
    ) -> tuple[Call, int]:
        names = Seal.names(state)
        call = await self._store.get_call(names[0]) if names is not None else None
        if names is None or call is None:
            raise InvalidRequestState("there is no such round")
        return call, names[1]

    return ((InputRounds, "named", named),)


def a_stranger_finds_a_call() -> tuple[Patch, ...]:
    async def own_call(self: Operations, call_id: str, principal: Principal) -> Call:
        found = await self._store.get_call(call_id)
        if found is None:
            raise NotFound("there is no such call")
        return found

    return ((Operations, "own_call", own_call),)


def answers_are_left_behind() -> tuple[Patch, ...]:
    return ((attempts, "carried", lambda given: {}),)


def an_answer_does_not_reach_who_waits() -> tuple[Patch, ...]:
    return ((Questions, "answered", lambda self, answered: None),)


def a_task_is_called_again() -> tuple[Patch, ...]:
    take_over = sweep._take_over

    def again(tx: Transaction, write: Recover, found: Found) -> Call | None:
        if found.remote_task is None:
            return take_over(tx, write, found)
        attach(tx, found.seq, call_from(found, remote_task=None))
        return take_over(tx, write, found._replace(remote_task=None, retry_safe=1))

    return ((sweep, "_take_over", again),)


def a_task_is_taken_for_cancelled() -> tuple[Patch, ...]:
    step = Watch._step

    async def hopeful(self: Watch) -> Any:
        if self._cancel:
            await self._ask_to_cancel()
            return Cancelled("it was to be cancelled")
        return await step(self)

    return ((Watch, "_step", hopeful),)


MUTANTS_OF_ROUNDS = (
    Mutant("a round is answered twice", a_round_is_answered_twice),
    Mutant("an answer overwrites an earlier one", an_answer_overwrites_an_earlier_one),
    Mutant("an answer is taken for any round", an_answer_is_taken_for_any_round),
    Mutant("a stranger takes up a round", a_stranger_takes_up_a_round),
    Mutant("a stranger finds a call", a_stranger_finds_a_call),
    Mutant("answers are left behind", answers_are_left_behind),
    Mutant("an answer does not reach who waits", an_answer_does_not_reach_who_waits),
    Mutant("a task is called again", a_task_is_called_again),
    Mutant("a task is taken for cancelled", a_task_is_taken_for_cancelled),
)
