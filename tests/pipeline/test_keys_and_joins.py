"""At most once: what a key promises, and what is joined without one."""

import anyio
import pytest

from holdfast_store.contract import CallFilter
from holdfast_store.model.errors import CallError, KeyConflict
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Principal


async def test_the_same_key_runs_once_and_replays_the_outcome(inside):
    first = await inside.call("ledger__write", {"n": 1}, key="k-1")
    again = await inside.call("ledger__write", {"n": 1}, key="k-1")
    assert again.replayed
    assert again.call.id == first.call.id
    assert again.call.outcome == first.call.outcome
    assert len(inside.workspace.ledger.effects("write")) == 1


async def test_a_key_used_with_other_arguments_is_a_conflict_and_never_the_stored_outcome(inside):
    await inside.call("ledger__write", {"n": 1}, key="k-1")
    with pytest.raises(KeyConflict, match="other arguments"):
        await inside.call("ledger__write", {"n": 2}, key="k-1")
    assert len(inside.workspace.ledger.effects("write")) == 1


async def test_an_integer_and_a_float_are_different_arguments(inside):
    await inside.call("ledger__read", {"n": 1}, key="k-1")
    with pytest.raises(KeyConflict):
        await inside.call("ledger__read", {"n": 1.0}, key="k-1")


async def test_a_key_joins_the_open_call_and_both_get_its_outcome(inside):
    replies = []

    async def client() -> None:
        replies.append(await inside.call("ledger__slow", {"n": 1, "delay_ms": 300}, key="k-1"))

    async with anyio.create_task_group() as clients:
        clients.start_soon(client)
        await inside.until_begun("slow")
        clients.start_soon(client)
    assert {reply.call.id for reply in replies} == {replies[0].call.id}
    assert sorted(reply.joined for reply in replies) == [False, True]
    assert all(reply.call.state is State.DONE for reply in replies)
    assert len(inside.workspace.ledger.effects("slow")) == 1


async def test_an_error_replays_like_a_result(inside):
    await inside.call("ledger__fail", {"n": 1}, key="k-1")
    again = await inside.call("ledger__fail", {"n": 1}, key="k-1")
    assert again.replayed
    assert len(inside.workspace.ledger.effects("fail")) == 1


async def test_a_replay_asks_neither_schema_nor_policy_nor_limits(opened):
    async with opened() as inside:
        first = await inside.call("ledger__write", {"n": 1}, key="k-1")
    deny = {"id": "no-writes", "match": {"tool": "ledger__write"}, "effect": "deny", "reason": "closed"}
    async with opened(rules=[deny]) as inside:
        again = await inside.call("ledger__write", {"n": 1}, key="k-1")
        assert again.replayed
        assert again.call.id == first.call.id


async def test_the_same_key_of_another_principal_is_another_key(inside):
    mine = await inside.call("ledger__write", {"n": 1}, key="k-1")
    theirs = await inside.call("ledger__write", {"n": 1}, key="k-1", principal=Principal("somebody"))
    assert theirs.call.id != mine.call.id


@pytest.mark.parametrize("key", ["", "x" * 256, "naïve", "tab\tkey"])
async def test_a_key_of_the_wrong_form_is_refused_rather_than_dropped(inside, key):
    with pytest.raises(CallError, match="1 to 255 printable ASCII"):
        await inside.call("ledger__write", {"n": 1}, key=key)


async def test_an_argument_can_be_the_key(opened):
    async with opened(tools={"ledger__write": {"key_argument": "ref"}}) as inside:
        await inside.call("ledger__write", {"n": 1, "ref": "r-1"})
        again = await inside.call("ledger__write", {"n": 1, "ref": "r-1"})
        assert again.replayed
        assert len(inside.workspace.ledger.effects("write")) == 1


async def test_a_forwarded_key_reaches_the_downstream(opened):
    async with opened(tools={"ledger__write": {"forward_key": "ref"}}) as inside:
        await inside.call("ledger__write", {"n": 1}, key="k-1")
        (effect,) = inside.workspace.ledger.effects("write")
        assert effect.arguments["ref"] == "k-1"


async def test_an_unkeyed_repeat_joins_the_open_call_it_repeats(inside):
    replies = []

    async def client() -> None:
        replies.append(await inside.call("ledger__slow", {"n": 1, "delay_ms": 400}))

    async with anyio.create_task_group() as clients:
        clients.start_soon(client)
        await inside.until_begun("slow")
        inside.clock.pass_by(0.6)
        clients.start_soon(client)
    assert {reply.call.id for reply in replies} == {replies[0].call.id}
    assert len(inside.workspace.ledger.effects("slow")) == 1


async def test_two_same_calls_at_once_are_two_intents(inside):
    async with anyio.create_task_group() as clients:
        for _ in range(2):
            clients.start_soon(inside.call, "ledger__write", {"n": 1, "delay_ms": 100})
    assert len(inside.workspace.ledger.effects("write")) == 2


async def test_calls_that_the_client_tells_apart_are_never_joined(inside):
    async def client(client_call_id: str) -> None:
        await inside.call("ledger__slow", {"n": 1, "delay_ms": 300}, client_call_id=client_call_id)

    async with anyio.create_task_group() as clients:
        clients.start_soon(client, "toolu_1")
        await inside.until_begun("slow")
        inside.clock.pass_by(0.6)
        clients.start_soon(client, "toolu_2")
    assert len(inside.workspace.ledger.effects("slow")) == 2


async def test_a_blind_retry_after_giving_up_gets_the_outcome_that_was_never_delivered(inside):
    async with anyio.create_task_group() as clients:
        clients.start_soon(inside.call, "ledger__slow", {"n": 1, "delay_ms": 200})
        await inside.until_begun("slow")
        clients.cancel_scope.cancel()
    (abandoned,) = (await inside.store.list_calls(CallFilter(), 10)).items
    await inside.until(abandoned.id, State.DONE)
    retried = await inside.call("ledger__slow", {"n": 1, "delay_ms": 200})
    assert retried.joined
    assert retried.call.id == abandoned.id
    assert len(inside.workspace.ledger.effects("slow")) == 1


async def test_once_delivered_the_same_call_is_a_new_intent(inside):
    first = await inside.call("ledger__write", {"n": 1})
    second = await inside.call("ledger__write", {"n": 1})
    assert first.call.id != second.call.id
    assert len(inside.workspace.ledger.effects("write")) == 2


async def test_dedupe_off_runs_every_repeat(opened):
    async with opened(tools={"ledger__slow": {"dedupe": "off"}}) as inside:

        async def client() -> None:
            await inside.call("ledger__slow", {"n": 1, "delay_ms": 300})

        async with anyio.create_task_group() as clients:
            clients.start_soon(client)
            await inside.until_begun("slow")
            inside.clock.pass_by(0.6)
            clients.start_soon(client)
        assert len(inside.workspace.ledger.effects("slow")) == 2
