"""A downstream that wants a call again and asks nothing; and what becomes of rounds when time or config moves on."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, OutcomeKind
from holdfast_tools.client import ClientProfile
from holdfast_tools.rounds import InvalidRequestState
from holdfast_tools.settings import RunnerSettings

TESTS = Path(__file__).resolve().parents[1]

OLD = ClientProfile(protocol_version="2025-11-25")
NEW = ClientProfile(protocol_version="2026-07-28")
AT_ONCE = RunnerSettings(first_backoff_s=0.001, longest_backoff_s=0.01)
NEVER = RunnerSettings(first_backoff_s=1e6, longest_backoff_s=1e6)


@pytest.fixture
def unasking() -> dict[str, Any]:
    """Settings with the downstream, and a policy that lets every call through."""
    server = str(TESTS / "pipeline" / "unasking.py")
    entry = {"command": sys.executable, "args": [server], "env": {"PYTHONPATH": str(TESTS)}}
    return {"mcpServers": {"slow": entry}, "rules": [{"id": "all", "effect": "allow"}], "inline_wait": "20s"}


def text_of(call: Call) -> str:
    assert call.outcome is not None, call.state
    return str(call.outcome.payload["content"][0]["text"])


async def test_for_a_client_that_knows_no_rounds_it_is_sent_again_after_a_pause(opened, unasking):
    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(AT_ONCE)
        begun = (await inside.call("slow__later", {"times": 2}, client=OLD)).call
        done = await inside.until(begun.id, State.DONE)
        assert (text_of(done), done.fence) == ("after 2", 3)
        again = ["ask", "answer", "claim"]
        assert await inside.events(begun.id) == ["start", *again, *again, "settle"]


async def test_for_a_client_that_was_given_a_handle_it_is_sent_again_as_well(opened, unasking):
    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(AT_ONCE)
        begun = (await inside.call("slow__later", {"times": 1}, client=NEW, at_once=True)).call
        assert text_of(await inside.until(begun.id, State.DONE)) == "after 1"


async def test_a_client_of_that_era_is_told_and_comes_again_by_itself(opened, unasking):
    async with opened(**unasking) as inside:
        asked = (await inside.call("slow__later", {"times": 1}, client=NEW)).call
        assert (asked.state, asked.round.requests) == (State.WAITING_FOR_INPUT, {})
        state = inside.assembly.gateway.request_state(asked)
        done = (await inside.call("slow__later", {"times": 1}, client=NEW, request_state=state)).call
        assert (done.id, text_of(done)) == (asked.id, "after 1")


@pytest.mark.parametrize("can_be_asked", [True, False])
async def test_a_client_that_waits_gets_the_answer_and_is_asked_nothing(opened, unasking, can_be_asked):
    asked = []

    async def ask(requests):
        asked.append(requests)
        return {}

    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(AT_ONCE)
        reply = await inside.call("slow__later", {"times": 5}, client=OLD, ask=ask if can_be_asked else None)
        assert (text_of(reply.call), asked) == ("after 5", [])


async def test_a_client_that_can_be_asked_waits_for_its_time_and_no_longer(opened, unasking):
    async def ask(requests):
        raise AssertionError(requests)

    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(NEVER)
        reply = await inside.call("slow__later", {"times": 1}, client=OLD, ask=ask, inline_wait_s=0.1)
        assert not reply.call.ended
        seen = await inside.assembly.gateway.wait_until_ended(reply.call.id, 0.1, ask=ask)
        assert (seen.state, seen.round.number) == (State.WAITING_FOR_INPUT, 1)


async def test_a_client_whose_wait_ends_as_the_downstream_asks_is_told_and_comes_again(opened, unasking):
    async with opened(**unasking) as inside:
        read, asked = inside.store.get_call, anyio.Event()

        async def slow_read(call_id):
            call = await read(call_id)
            await asked.wait()
            return call

        def notice(call):
            if call.state is State.WAITING_FOR_INPUT:
                asked.set()

        inside.assembly.gateway._waiters.subscribe(notice)
        inside.store.get_call = slow_read
        told = (await inside.call("slow__later", {"times": 1}, client=NEW, inline_wait_s=0.0)).call
        assert told.state is State.WAITING_FOR_INPUT
        state = inside.assembly.gateway.request_state(told)
        done = (await inside.call("slow__later", {"times": 1}, client=NEW, request_state=state)).call
        assert (done.id, text_of(done)) == (told.id, "after 1")


async def test_the_state_of_a_round_counts_still_where_the_next_engine_went_on_by_itself(opened, unasking):
    async with opened(**unasking) as inside:
        asked = (await inside.call("slow__later", {"times": 1}, client=NEW)).call
        state = inside.assembly.gateway.request_state(asked)
    async with opened(**unasking) as inside:
        await inside.until(asked.id, State.DONE)
        again = await inside.call("slow__later", {"times": 1}, client=NEW, request_state=state)
        assert (again.call.id, again.joined, text_of(again.call)) == (asked.id, True, "after 1")


async def test_a_state_that_its_client_used_is_used_up(opened, unasking):
    async with opened(**unasking) as inside:
        asked = (await inside.call("slow__later", {"times": 1}, client=NEW)).call
        state = inside.assembly.gateway.request_state(asked)
        await inside.call("slow__later", {"times": 1}, client=NEW, request_state=state)
        with pytest.raises(InvalidRequestState, match="can be used once"):
            await inside.call("slow__later", {"times": 1}, client=NEW, request_state=state)


async def test_it_is_not_sent_again_for_ever(opened, unasking):
    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(AT_ONCE)
        begun = (await inside.call("slow__later", {"times": 1000}, client=OLD)).call
        failed = await inside.until(begun.id, State.FAILED)
        assert failed.outcome.kind is OutcomeKind.ERROR
        assert failed.outcome.message == "slow wanted the call again 21 times, and never ended it"


async def test_the_next_engine_sends_it_again_where_one_ended_in_the_pause(opened, unasking):
    async with opened(**unasking) as inside:
        inside.assembly.runner.adjust(NEVER)
        begun = (await inside.call("slow__later", {"times": 1}, client=OLD, inline_wait_s=0.1)).call
        await inside.until(begun.id, State.WAITING_FOR_INPUT)
    async with opened(**unasking) as inside:
        assert text_of(await inside.until(begun.id, State.DONE)) == "after 1"


async def test_what_waits_for_input_fails_when_its_downstream_is_not_configured_any_more(opened, unasking):
    async with opened(**unasking) as inside:
        asked = (await inside.call("slow__later", {"times": 1}, client=NEW)).call
    async with opened() as inside:
        failed = await inside.until(asked.id, State.FAILED)
        assert failed.outcome.kind is OutcomeKind.ERROR
        assert "the downstream 'slow' changed" in failed.outcome.message


async def test_how_long_an_answer_is_waited_for_is_a_setting(opened, unasking):
    async with opened(**unasking, limits={"answer_within": "10m"}) as inside:
        asked = (await inside.call("slow__later", {"times": 1}, client=NEW)).call
        inside.clock.pass_by(9 * 60)
        inside.assembly.runner.wake()
        assert (await inside.store.get_call(asked.id)).state is State.WAITING_FOR_INPUT
        inside.clock.pass_by(60)
        inside.assembly.runner.wake()
        assert (await inside.until(asked.id, State.FAILED)).outcome.kind is OutcomeKind.EXPIRED
