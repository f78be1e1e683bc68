"""Parked calls and those in doubt: who may decide, what a verdict binds, and what happens then."""

import os
import signal
from dataclasses import replace

import anyio
import pytest

from holdfast_store.contract import CallFilter, Claim, Purge
from holdfast_store.model.errors import NotFound, WrongState
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import LOCAL, OutcomeKind, Principal, VerdictKind

APPROVE, REJECT = VerdictKind.APPROVE, VerdictKind.REJECT

DENY_DESTROY = {"id": "no", "match": {"tool": "ledger__destroy"}, "effect": "deny", "reason": "closed for today"}


async def parked(inside, n: int = 1):
    reply = await inside.call("ledger__destroy", {"n": n})
    assert reply.call.state is State.WAITING_FOR_APPROVAL
    return reply.call, await inside.approval_of(reply.call)


async def test_a_tool_that_may_do_harm_is_parked_and_costs_nothing(inside):
    call, _ = await parked(inside)
    assert await inside.events(call.id) == ["park"]
    assert inside.workspace.ledger.effects() == []


async def test_an_approved_call_runs_once(inside, approver):
    call, approval_id = await parked(inside)
    await inside.operations.decide(approval_id, approver, APPROVE, "go")
    await inside.until(call.id, State.DONE)
    assert await inside.events(call.id) == ["park", "approve", "claim", "settle"]
    assert len(inside.workspace.ledger.effects("destroy")) == 1


async def test_a_rejected_call_never_runs_and_the_reason_reaches_the_requester(inside, approver):
    call, approval_id = await parked(inside)
    await inside.operations.decide(approval_id, approver, REJECT, "not on a Friday")
    ended = await inside.until(call.id, State.FAILED)
    assert ended.outcome.kind is OutcomeKind.REJECTED
    assert "not on a Friday" in ended.outcome.message
    assert inside.workspace.ledger.effects() == []


async def test_the_requester_cannot_approve_its_own_call(inside):
    _, approval_id = await parked(inside)
    with pytest.raises(WrongState):
        await inside.operations.decide(approval_id, Principal("local", frozenset({"approver"})), APPROVE, "")
    assert inside.workspace.ledger.effects() == []


async def test_a_verdict_without_the_role_does_not_count(inside):
    _, approval_id = await parked(inside)
    with pytest.raises(WrongState):
        await inside.operations.decide(approval_id, Principal("visitor"), APPROVE, "")


async def test_the_second_decision_is_told_who_decided(inside, approver):
    _, approval_id = await parked(inside)
    await inside.operations.decide(approval_id, approver, REJECT, "no")
    with pytest.raises(WrongState, match="operator"):
        await inside.operations.decide(approval_id, Principal("late", frozenset({"approver"})), APPROVE, "")


async def test_an_unknown_approval_is_not_found(inside, approver):
    with pytest.raises(NotFound):
        await inside.operations.decide("0" * 32, approver, APPROVE, "")


async def test_an_undecided_call_expires_and_never_runs(opened):
    async with opened(approval_defaults={"expires_in": "10m"}) as inside:
        call, _ = await parked(inside)
        inside.clock.pass_by(601)
        inside.assembly.runner.wake()
        ended = await inside.until(call.id, State.FAILED)
        assert ended.outcome.kind is OutcomeKind.EXPIRED
        assert inside.workspace.ledger.effects() == []


async def test_a_parked_call_survives_a_restart_and_runs_when_approved(opened, approver):
    async with opened() as inside:
        call, approval_id = await parked(inside)
    async with opened() as inside:
        assert (await inside.store.get_call(call.id)).state is State.WAITING_FOR_APPROVAL
        await inside.operations.decide(approval_id, approver, APPROVE, "")
        await inside.until(call.id, State.DONE)
        assert len(inside.workspace.ledger.effects("destroy")) == 1


async def test_a_deny_added_since_wins_over_the_approval(opened, approver):
    async with opened() as inside:
        call, approval_id = await parked(inside)
    async with opened(rules=[DENY_DESTROY]) as inside:
        with pytest.raises(WrongState, match="closed for today"):
            await inside.operations.decide(approval_id, approver, APPROVE, "")
        assert (await inside.until(call.id, State.FAILED)).outcome.kind is OutcomeKind.DENIED
        assert inside.workspace.ledger.effects() == []


async def test_a_rule_added_since_is_asked_before_an_approved_call_runs(opened, approver):
    async with opened() as inside:
        call, approval_id = await parked(inside)
    rule = {
        "id": "finance",
        "match": {"tool": "ledger__destroy"},
        "effect": "require_approval",
        "approval": {"roles": ["finance"]},
    }
    people = [{"id": "fin", "roles": ["finance"], "token": "token-of-fin"}]
    async with opened(rules=[rule], principals=people) as inside:
        await inside.operations.decide(approval_id, approver, APPROVE, "")
        with anyio.fail_after(20):
            while await inside.events(call.id) != ["park", "approve", "park"]:
                await anyio.sleep(0.01)
        again = await inside.approval_of(call)
        assert again != approval_id
        await inside.operations.decide(again, Principal("fin", frozenset({"finance"})), APPROVE, "")
        await inside.until(call.id, State.DONE)
        assert len(inside.workspace.ledger.effects("destroy")) == 1


async def test_a_call_whose_downstream_changed_fails_and_says_so(opened, workspace):
    async with opened() as inside:
        call, _ = await parked(inside)
    changed = {"ledger": workspace.ledger_downstream("--list-delay-ms", "1")}
    async with opened(mcpServers=changed) as inside:
        ended = await inside.until(call.id, State.FAILED)
        assert "changed" in ended.outcome.message
        assert ended.outcome.kind is OutcomeKind.UNREACHABLE


async def test_a_denied_call_is_recorded_and_never_runs(opened):
    async with opened(rules=[DENY_DESTROY]) as inside:
        reply = await inside.call("ledger__destroy", {"n": 1})
        assert reply.call.outcome.kind is OutcomeKind.DENIED
        assert "closed for today" in reply.call.outcome.message
        assert reply.call.rules == ("no",)
        assert await inside.events(reply.call.id) == ["deny"]


async def test_a_parked_call_can_be_cancelled_and_its_approval_with_it(inside, approver):
    call, approval_id = await parked(inside)
    assert (await inside.operations.cancel(call, LOCAL)).state is State.CANCELLED
    with pytest.raises(WrongState):
        await inside.operations.decide(approval_id, approver, APPROVE, "")


async def test_a_write_that_was_sent_is_not_cancelled_but_marked(inside):
    async with anyio.create_task_group() as clients:
        clients.start_soon(inside.call, "ledger__slow", {"n": 1, "delay_ms": 400})
        await inside.until_begun("slow")
        (call,) = await _running(inside)
        after = await inside.operations.cancel(call, LOCAL)
        assert after.state is State.RUNNING
        assert after.cancel_requested
    assert (await inside.until(call.id, State.DONE)).cancel_requested


async def test_a_definition_that_changes_after_the_claim_is_asked_about_again(inside, approver):
    call, approval_id = await parked(inside)
    (record,) = await inside.store.catalogs()
    tools = tuple({**tool, "description": "other"} if tool["name"] == "destroy" else tool for tool in record.tools)
    with inside.late_answers(Claim) as disk:
        await inside.operations.decide(approval_id, approver, APPROVE, "")
        await disk.reached.wait()
        inside.assembly.catalog.update(replace(record, tools=tools))
    await inside.until(call.id, State.WAITING_FOR_APPROVAL)
    assert await inside.events(call.id) == ["park", "approve", "claim", "retry", "park"]
    assert await inside.approval_of(call) != approval_id
    assert inside.workspace.ledger.effects() == []


async def test_an_approved_call_waits_for_its_downstream_without_spinning(inside, approver):
    call, approval_id = await parked(inside)
    runnable, looks = inside.store.runnable, []

    async def counted(limit, full):
        looks.append(limit)
        return await runnable(limit, full)

    inside.store.runnable = counted
    with inside.without_downstream():
        await inside.operations.decide(approval_id, approver, APPROVE, "")
        await anyio.sleep(0.5)
        assert len(looks) < 5
    await inside.until(call.id, State.DONE)


async def test_calls_that_wait_for_one_downstream_do_not_hide_those_of_another(opened, workspace, approver):
    servers = {"ledger": workspace.ledger_downstream(), "other": workspace.ledger_downstream("--list-delay-ms", "1")}
    async with opened(mcpServers=servers) as inside:
        inside.assembly.runner._slots.most = 2
        waiting = [await inside.call("ledger__destroy", {"n": n}) for n in range(5)]
        last = await inside.call("other__destroy", {"n": 9})
        with inside.without_downstream():
            for reply in (*waiting, last):
                await inside.operations.decide(await inside.approval_of(reply.call), approver, APPROVE, "")
            await inside.until(last.call.id, State.DONE)
            assert (await inside.store.get_call(waiting[0].call.id)).state is State.QUEUED
        for reply in waiting:
            await inside.until(reply.call.id, State.DONE)


# --- in doubt ---------------------------------------------------------------------------------------------------


async def in_doubt(inside):
    replies = []

    async def client() -> None:
        replies.append(await inside.call("ledger__slow", {"n": 1, "delay_ms": 5000}))

    async with anyio.create_task_group() as clients:
        clients.start_soon(client)
        await inside.until_begun("slow")
        os.kill(inside.downstream_pid(), signal.SIGKILL)
    return replies[0].call


async def test_a_call_in_doubt_can_neither_be_cancelled_nor_resumed_by_its_requester(inside):
    call = await in_doubt(inside)
    with pytest.raises(WrongState):
        await inside.operations.cancel(call, LOCAL)
    with pytest.raises(WrongState):
        await inside.operations.resume(call, LOCAL, admin=False)


async def test_an_admin_resolves_a_doubt_as_done_and_the_requester_gets_the_result(inside, approver):
    call = await in_doubt(inside)
    result = {"content": [{"type": "text", "text": "found it in the books"}]}
    resolved = await inside.operations.resolve(call, approver, "done", result, "checked the books")
    assert resolved.state is State.DONE
    assert resolved.outcome.payload == result


async def test_an_admin_resolves_a_doubt_as_failed(inside, approver):
    call = await in_doubt(inside)
    resolved = await inside.operations.resolve(call, approver, "failed", None, "not in the books")
    assert resolved.state is State.FAILED
    with pytest.raises(WrongState, match="not in doubt"):
        await inside.operations.resolve(call, approver, "done", None, "late")


async def test_an_admin_has_a_doubt_tried_again(inside, approver):
    call = await in_doubt(inside)
    await inside.operations.resolve(call, approver, "retry", None, "it never arrived")
    assert (await inside.until(call.id, State.RUNNING, State.DONE)).fence == 2
    await inside.until_begun("slow", effects=2)


# --- resume -----------------------------------------------------------------------------------------------------


async def test_a_failed_call_resumes_as_a_new_one_in_the_same_run(inside):
    failed = (await inside.call("ledger__fail", {"n": 1})).call
    reply = await inside.operations.resume(failed, LOCAL, admin=False)
    assert reply.call.id != failed.id
    assert reply.call.resumes == failed.id
    assert reply.call.run == failed.run


async def test_a_done_call_resumes_as_itself(inside):
    done = (await inside.call("ledger__write", {"n": 1})).call
    reply = await inside.operations.resume(done, LOCAL, admin=False)
    assert reply.call.id == done.id
    assert len(inside.workspace.ledger.effects("write")) == 1


async def test_a_rejected_call_is_resumed_by_an_admin_only_and_asks_again(inside, approver):
    call, approval_id = await parked(inside)
    await inside.operations.decide(approval_id, approver, REJECT, "no")
    rejected = await inside.until(call.id, State.FAILED)
    with pytest.raises(WrongState, match="only an admin"):
        await inside.operations.resume(rejected, LOCAL, admin=False)
    reply = await inside.operations.resume(rejected, approver, admin=True)
    assert reply.call.state is State.WAITING_FOR_APPROVAL
    with pytest.raises(WrongState):
        await inside.operations.decide(await inside.approval_of(reply.call), approver, APPROVE, "")


async def test_resuming_a_resumed_call_again_answers_with_what_it_came_to(inside, approver):
    first = (await inside.undelivered("ledger__write", {"n": 1, "delay_ms": 5000}, inline_wait_s=0.05)).call
    pid = inside.downstream_pid()
    await inside.until_begun("write")
    os.kill(pid, signal.SIGKILL)
    doubted = await inside.until(first.id, State.IN_DOUBT)
    failed = await inside.operations.resolve(doubted, approver, "failed", None, "not in the books")
    resumed = await inside.operations.resume(failed, LOCAL, admin=False)
    await inside.until(resumed.call.id, State.DONE)
    again = await inside.operations.resume(failed, LOCAL, admin=False)
    assert again.call.id == resumed.call.id
    assert len(inside.workspace.ledger.effects("write")) == 2


async def test_a_call_whose_arguments_are_no_longer_kept_cannot_be_resumed(opened):
    async with opened() as inside:
        failed = (await inside.call("ledger__fail", {"n": 1})).call
        inside.clock.pass_by(inside.assembly.config.retention.payload_s + 1)
        await inside.store.commit((Purge(inside.assembly.config.retention),))
        purged = await inside.store.get_call(failed.id)
        assert purged.arguments == {}
        with pytest.raises(WrongState, match="no longer kept"):
            await inside.operations.resume(purged, LOCAL, admin=False)


async def _running(inside):
    return (await inside.store.list_calls(CallFilter(states=frozenset({State.RUNNING})), 10)).items
