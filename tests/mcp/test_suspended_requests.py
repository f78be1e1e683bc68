"""A request that waits at its downstream: what its client answers goes to the question that it was shown."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from holdfast_server.mcp.suspended import Suspended, SuspendedRequests
from holdfast_tools.client import ClientProfile
from holdfast_tools.offerings import Owned

WITHIN_S = 10.0
CLIENT = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}})
OWNED = Owned("inquiring", "ask://name")
ONE = {"method": "elicitation/create", "params": {"message": "one"}}
TWO = {"method": "elicitation/create", "params": {"message": "two"}}
ACCEPT = {"action": "accept", "content": {}}


async def taken_back(on_ask, shown):
    question = asyncio.ensure_future(on_ask(ONE))
    await shown.wait()
    question.cancel()
    (ended,) = await asyncio.gather(question, return_exceptions=True)
    return [type(ended).__name__, await on_ask(TWO)]


async def unanswered(on_ask, shown):
    return [(await on_ask(ONE))["action"], await on_ask(TWO)]


@pytest.mark.parametrize(("asks", "first"), [(unanswered, "cancel"), (taken_back, "CancelledError")])
async def test_the_state_of_a_question_that_is_over_does_not_answer_the_next(asks, first):
    seen = asyncio.Event()

    async def send(on_ask):
        return await asks(on_ask, seen)

    requests = SuspendedRequests()
    suspended = Suspended(OWNED, "me", CLIENT, send, answer_within_s=0.5)
    with anyio.fail_after(WITHIN_S):
        assert await suspended.turn(None) is None
        shown = requests.keep(suspended)
        assert shown.asked()["inputRequests"] == {"input": ONE}
        seen.set()
        while suspended.question != TWO:
            await anyio.lowlevel.checkpoint()
        assert requests.take(shown.state, "me") is None
        asked = requests.keep(suspended)
        assert asked.asked()["inputRequests"] == {"input": TWO}
        assert requests.take(asked.state, "somebody") is None
        assert requests.take(asked.state, "me") is suspended
        assert requests.take(asked.state, "me") is None
        suspended.answer(ACCEPT)
        assert await suspended.turn(None) == [first, ACCEPT]
