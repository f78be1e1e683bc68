"""From request to outcome: what is checked, what is written down, what is answered."""

import os
import signal

import anyio
import pytest

from holdfast_store.contract import CallFilter, Decide
from holdfast_store.model.errors import CallError, StoreError, UnknownTool
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import OutcomeKind, VerdictKind
from holdfast_tools.request import RefusedArguments


async def test_a_write_is_run_once_and_its_timeline_tells_it(inside):
    reply = await inside.call("ledger__write", {"n": 1})
    assert reply.call.state is State.DONE
    assert reply.call.outcome.payload["content"][0]["text"].startswith("write 1 as ")
    assert await inside.events(reply.call.id) == ["start", "settle"]
    assert len(inside.workspace.ledger.effects("write")) == 1


async def test_a_read_is_answered_first_and_recorded_after(inside):
    reply = await inside.call("ledger__read", {"n": 7})
    assert reply.call.outcome.payload["content"][0]["text"] == "read 7"
    assert (await inside.until(reply.call.id, State.DONE)).delivered
    assert await inside.events(reply.call.id) == ["start", "settle"]


async def test_arguments_that_do_not_fit_run_nothing_and_are_told_by_pointer(inside):
    with pytest.raises(RefusedArguments) as refused:
        await inside.call("ledger__write", {"m": 1})
    told = str(refused.value)
    assert '"m"' in told
    assert '"n"' in told
    assert inside.workspace.ledger.effects() == []


async def test_empty_arguments_are_checked_like_any_others(inside):
    with pytest.raises(RefusedArguments):
        await inside.call("ledger__write", {})


async def test_arguments_over_the_limit_are_refused_with_the_limit(opened):
    async with opened(limits={"max_arguments_bytes": 2000}) as inside:
        with pytest.raises(CallError, match=r"2,000"):
            await inside.call("ledger__write", {"n": 1, "ref": "x" * 2000})
        assert inside.workspace.ledger.effects() == []


async def test_an_unknown_tool_is_named_with_the_nearest_known_one(inside):
    with pytest.raises(UnknownTool, match="ledger__write"):
        await inside.call("ledger__wriet", {"n": 1})


async def test_a_tool_error_ends_the_call_as_failed_and_is_passed_on(inside):
    reply = await inside.call("ledger__fail", {"n": 1})
    assert reply.call.state is State.FAILED
    assert reply.call.outcome.kind is OutcomeKind.TOOL_ERROR
    assert len(inside.workspace.ledger.effects("fail")) == 1


async def test_a_protocol_error_ends_the_call_as_failed(inside):
    reply = await inside.call("ledger__break", {"n": 1})
    assert reply.call.outcome.kind is OutcomeKind.RPC_ERROR


async def test_errors_are_retried_as_often_as_the_tool_allows(opened):
    async with opened(tools={"ledger__fail": {"retries": {"max_attempts": 3}}}) as inside:
        reply = await inside.call("ledger__fail", {"n": 1})
        call = await inside.until(reply.call.id, State.FAILED)
        assert call.fence == 3
        assert await inside.events(call.id) == ["start", "retry", "claim", "retry", "claim", "fail"]


async def test_a_call_that_outlasts_the_inline_wait_is_answered_with_a_handle_and_goes_on(opened):
    async with opened(inline_wait="50ms") as inside:
        reply = await inside.call("ledger__slow", {"n": 1, "delay_ms": 300})
        assert reply.call.state is State.RUNNING
        call = await inside.assembly.gateway.wait_until_ended(reply.call.id, 20)
        assert call.state is State.DONE


async def test_a_read_that_outlasts_the_inline_wait_gets_a_handle_that_survives(opened):
    async with opened(inline_wait="50ms") as inside:
        reply = await inside.call("ledger__read", {"n": 1, "delay_ms": 300})
        assert reply.call.state is State.RUNNING
        stored = await inside.store.get_call(reply.call.id)
        assert stored is not None
        assert (await inside.until(reply.call.id, State.DONE)).outcome.payload["content"][0]["text"] == "read 1"


async def test_a_client_that_goes_away_leaves_its_dispatched_write_running(inside):
    async with anyio.create_task_group() as clients:
        clients.start_soon(inside.call, "ledger__slow", {"n": 1, "delay_ms": 300})
        await inside.until_begun("slow")
        clients.cancel_scope.cancel()
    (call,) = (await inside.store.list_calls(CallFilter(), 10)).items
    assert (await inside.until(call.id, State.DONE)).delivered is False


async def test_a_downstream_killed_in_mid_write_leaves_the_call_in_doubt(inside):
    async with anyio.create_task_group() as clients:
        replies = []

        async def client() -> None:
            replies.append(await inside.call("ledger__slow", {"n": 1}))

        clients.start_soon(client)
        await inside.until_begun("slow")
        os.kill(inside.downstream_pid(), signal.SIGKILL)
    (reply,) = replies
    assert reply.call.state is State.IN_DOUBT
    assert await inside.events(reply.call.id) == ["start", "lose"]
    assert len(inside.workspace.ledger.effects("slow")) == 1


async def test_a_downstream_killed_in_mid_read_is_rebuilt_and_the_read_retried(opened):
    async with opened(inline_wait="20s") as inside:
        replies = []

        async def client() -> None:
            replies.append(await inside.call("ledger__read", {"n": 1, "delay_ms": 400}))

        before = inside.downstream_pid()
        async with anyio.create_task_group() as clients:
            clients.start_soon(client)
            await anyio.sleep(0.1)
            os.kill(before, signal.SIGKILL)
        assert replies[0].call.state is State.DONE
        assert inside.downstream_pid() != before


async def test_a_write_without_an_answer_in_time_is_in_doubt_until_the_late_answer_comes(opened):
    async with opened(tools={"ledger__slow": {"timeout": "100ms"}}) as inside:
        reply = await inside.call("ledger__slow", {"n": 1, "delay_ms": 800})
        assert reply.call.state is State.IN_DOUBT
        call = await inside.until(reply.call.id, State.DONE)
        assert await inside.events(call.id) == ["start", "lose", "evidence_done"]
        assert len(inside.workspace.ledger.effects("slow")) == 1


async def test_a_downstream_that_cannot_start_is_named_with_its_last_words_and_holds_up_nobody(opened, workspace):
    broken = {"command": "python3", "args": ["-c", "import sys; sys.exit('no database here')"]}
    servers = {"ledger": workspace.ledger_downstream(), "broken": broken}
    async with opened(mcpServers=servers) as inside:
        assert (await inside.call("ledger__write", {"n": 1})).call.state is State.DONE
        status = inside.assembly.downstreams["broken"].status
        assert status.state != "connected"
        assert any("no database here" in line for line in status.stderr_tail)


async def test_the_trace_of_the_caller_names_the_run(inside):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    reply = await inside.call("ledger__write", {"n": 1}, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert reply.call.run == trace


async def test_what_was_not_even_taken_in_time_is_not_in_doubt(opened):
    async with opened(tools={"ledger__write": {"timeout": "200ms"}}) as inside:
        with inside.taking_nothing():
            reply = await inside.call("ledger__write", {"n": 1}, inline_wait_s=15)
        assert reply.call.state is State.FAILED
        assert reply.call.outcome.kind is OutcomeKind.UNREACHABLE
        await inside.call("ledger__write", {"n": 2})
        assert [effect.arguments["n"] for effect in inside.workspace.ledger.effects("write")] == [2]


async def test_a_read_that_policy_only_watches_is_journaled_with_what_it_would_have_asked(opened):
    rule = {"id": "look", "match": {"tool": "ledger__read"}, "effect": "require_approval"}
    async with opened(preset="observe", rules=[rule]) as inside:
        reply = await inside.call("ledger__read", {"n": 1})
        entries = await inside.store.journal(reply.call.id)
        assert any("would_ask" in entry.detail for entry in entries)


async def test_a_store_in_trouble_holds_up_a_claim_and_no_more(inside, approver):
    parked = (await inside.call("ledger__destroy", {"n": 1})).call
    approval_id = await inside.approval_of(parked)
    read, troubles = inside.store.get_approval, []

    async def troubled(approval):
        if len(troubles) < 3:
            troubles.append(approval)
            raise StoreError("the disk is slow today")
        return await read(approval)

    await inside.store.commit((Decide(approval_id, approver.id, approver.roles, VerdictKind.APPROVE),))
    inside.store.get_approval = troubled
    inside.assembly.runner.wake()
    await inside.until(parked.id, State.DONE)
    assert len(troubles) == 3
