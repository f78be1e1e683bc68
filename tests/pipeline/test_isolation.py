"""Whether principals meet in one process or session of a downstream, and how many of these there are."""

import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from holdfast_server.config import load
from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import OutcomeKind, Principal
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.attempt import Lost
from holdfast_tools.downstream.owner import Downstream

DEADLINE_S = 30.0
TESTS = Path(__file__).resolve().parents[1]

ADA, BOB = Principal("ada"), Principal("bob")
PEOPLE = [{"id": "ada", "token": "token-of-ada"}, {"id": "bob", "token": "token-of-bob"}]
ASKABLE = ClientProfile(protocol_version="2025-11-25", capabilities={"elicitation": {}})


def entry(workspace: Any, era: str, **more: Any) -> dict[str, Any]:
    """The ledger downstream, which speaks 2026-07-28; or one of 2025-11-25."""
    if era == "modern":
        return {**workspace.ledger_downstream(), **more}
    args = ["-m", "support.core_task_server", str(workspace.ledger.path)]
    return {"command": sys.executable, "args": args, "env": {"PYTHONPATH": str(TESTS)}, **more}


def tool(era: str) -> str:
    return "ledger__write" if era == "modern" else "ledger__either"


@pytest.fixture(params=["modern", "legacy"])
def era(request) -> str:
    return str(request.param)


def settings(server: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Every call is a plain one, and allowed."""
    plain = {"ledger__*": {"task": "never", **more.pop("tool", {})}}
    allowed = [{"id": "all", "effect": "allow"}]
    return {"mcpServers": {"ledger": server}, "rules": allowed, "inline_wait": "20s", "tools": plain, **more}


class Failure:
    """What a request raised."""

    error: Exception | None = None

    async def of(self, request: Awaitable[Any]) -> None:
        try:
            await request
        except Exception as error:
            self.error = error


def idle_sessions(downstream: Downstream) -> int:
    """How many leased sessions are open that nobody uses now."""
    return sum(place.session.usable and not place.users for place in downstream._leases._places)


def pids(inside: Any) -> list[int]:
    return [effect.pid for effect in inside.workspace.ledger.effects()]


async def test_each_principal_has_one_process_of_its_own_and_nobody_has_the_first(opened, workspace, era):
    async with opened(**settings(entry(workspace, era, isolation="principal"))) as inside:
        for n, principal in enumerate((ADA, BOB, ADA, BOB)):
            await inside.call(tool(era), {"n": n}, principal=principal)
        first, second, third, fourth = pids(inside)
        assert (first, second) == (third, fourth)
        assert len({first, second, inside.downstream_pid()}) == 3


async def test_who_shares_meets_in_the_one_process(opened, workspace, era):
    async with opened(**settings(entry(workspace, era, isolation="shared"), principals=PEOPLE)) as inside:
        for n, principal in enumerate((ADA, BOB)):
            await inside.call(tool(era), {"n": n}, principal=principal)
        assert pids(inside) == [inside.downstream_pid()] * 2


async def test_calls_of_one_principal_at_once_share_its_process(opened, workspace, era):
    async with opened(**settings(entry(workspace, era, isolation="principal", max_sessions=1))) as inside:
        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(lambda n=n: inside.call(tool(era), {"n": n, "delay_ms": 100}, principal=ADA))
        assert len(set(pids(inside))) == 1
        assert len(pids(inside)) == 4


async def test_reads_go_to_the_principals_own_process_as_well(opened, workspace):
    async with opened(**settings(entry(workspace, "modern", isolation="principal"))) as inside:
        downstream = inside.assembly.downstreams["ledger"]
        assert idle_sessions(downstream) == 0
        await inside.call("ledger__read", {"n": 1}, principal=ADA)
        assert idle_sessions(downstream) == 1


async def test_where_all_sessions_are_taken_a_call_waits_and_then_says_so(opened, workspace, era):
    server = entry(workspace, era, isolation="principal", max_sessions=1)
    async with opened(**settings(server, tool={"timeout": "1500ms"})) as inside:
        busy = inside.assembly.downstreams["ledger"]
        async with busy._leases.leased(
            busy._tasks, busy._wanted(busy._supervisor.connection, ASKABLE, "default/ada", None)
        ):
            failed = (await inside.call(tool(era), {"n": 1}, principal=BOB)).call
        assert (failed.state, failed.outcome.kind) == (State.FAILED, OutcomeKind.UNREACHABLE)
        assert "all 1 sessions of the downstream 'ledger' are taken (`max_sessions`)" in failed.outcome.message
        assert "1.5 s" in failed.outcome.message
        assert pids(inside) == []
        done = (await inside.call(tool(era), {"n": 2}, principal=BOB)).call
        assert done.state is State.DONE


async def test_a_call_that_waits_for_a_session_gets_the_one_that_is_given_back(opened, workspace, era):
    server = entry(workspace, era, isolation="principal", max_sessions=1)
    async with opened(**settings(server)) as inside:
        busy = inside.assembly.downstreams["ledger"]
        wanted = busy._wanted(busy._supervisor.connection, ASKABLE, "default/ada", None)
        async with anyio.create_task_group() as tasks, busy._leases.leased(busy._tasks, wanted) as session:
            tasks.start_soon(lambda: inside.call(tool(era), {"n": 1}, principal=BOB))
            with anyio.fail_after(20):
                while not inside.assembly.downstreams["ledger"]._under_way:
                    await anyio.sleep(0.01)
            assert session.usable
        assert not session.usable
        assert len(pids(inside)) == 1


async def test_a_session_of_a_write_in_doubt_is_ended_where_another_call_needs_its_place(opened, workspace, era):
    server = entry(workspace, era, isolation="principal", max_sessions=1)
    async with opened(**settings(server, tool={"timeout": "1500ms"})) as inside:
        hung = (await inside.call(tool(era), {"n": 1, "delay_ms": 600_000}, principal=ADA)).call
        assert hung.state is State.IN_DOUBT
        done = (await inside.call(tool(era), {"n": 2}, principal=BOB)).call
        assert done.state is State.DONE, done.outcome
        entries = await inside.store.journal(hung.id)
        assert [str(entry.event) for entry in entries] == ["start", "lose", "evidence_given_up"]
        assert "another session was needed" in entries[-1].detail["reason"]
        assert (await inside.store.get_call(hung.id)).state is State.IN_DOUBT


async def test_a_call_that_waits_already_gets_the_place_of_one_that_comes_in_doubt(opened, workspace):
    server = entry(workspace, "modern", isolation="principal", max_sessions=1)
    async with opened(**settings(server, tools={"ledger__write": {"task": "never", "timeout": "2s"}})) as inside:
        hung = (await inside.call("ledger__write", {"n": 1, "delay_ms": 600_000}, principal=ADA, at_once=True)).call
        await inside.until_begun("write")
        waiting = (await inside.call("ledger__slow", {"n": 2, "delay_ms": 10}, principal=BOB)).call
        assert waiting.state is State.DONE, waiting.outcome
        assert waiting.fence == 1
        assert (await inside.store.get_call(hung.id)).state is State.IN_DOUBT


async def test_the_answer_of_a_write_in_doubt_is_waited_for_while_there_is_room(opened, workspace, era):
    server = entry(workspace, era, isolation="principal", max_sessions=2)
    async with opened(**settings(server, tool={"timeout": "1500ms"})) as inside:
        slow = (await inside.call(tool(era), {"n": 1, "delay_ms": 3_000}, principal=ADA)).call
        assert slow.state is State.IN_DOUBT
        assert (await inside.call(tool(era), {"n": 2}, principal=BOB)).call.state is State.DONE
        await inside.until(slow.id, State.DONE)


async def test_sessions_that_nobody_uses_are_ended(opened, workspace, era):
    async with opened(**settings(entry(workspace, era, isolation="principal"))) as inside:
        await inside.call(tool(era), {"n": 1}, principal=ADA)
        downstream = inside.assembly.downstreams["ledger"]
        assert idle_sessions(downstream) == 1
        downstream._leases.end_idle(0)
        assert idle_sessions(downstream) == 0
        await inside.call(tool(era), {"n": 2}, principal=ADA)
        assert len(set(pids(inside))) == 2


async def test_a_process_of_a_principal_that_dies_is_replaced_and_leaves_the_others_alone(opened, workspace, era):
    async with opened(**settings(entry(workspace, era, isolation="principal"))) as inside:
        for n, principal in enumerate((ADA, BOB)):
            await inside.call(tool(era), {"n": n}, principal=principal)
        place = next(place for place in inside.assembly.downstreams["ledger"]._leases._places)
        place.session.stop("made up")
        for n, principal in enumerate((ADA, BOB), 2):
            await inside.call(tool(era), {"n": n}, principal=principal)
        ada, bob, ada_again, bob_again = pids(inside)
        assert bob == bob_again
        assert ada != ada_again


async def test_a_request_that_waits_for_a_session_fails_when_its_downstream_is_stopped(workspace):
    path = workspace.write_config(settings(entry(workspace, "modern", isolation="principal", max_sessions=1)))
    (spec,) = load(path, workspace.environment).downstreams
    downstream = Downstream(spec, lambda record: None)
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as stopped:
        stopped.start_soon(downstream.run)
        assert await downstream.settled(DEADLINE_S)
        arguments = {"n": 1, "delay_ms": 600_000}
        busy = downstream.dispatch("write", arguments, meta={}, holder="default/ada", read_only=False)
        with anyio.fail_after(DEADLINE_S):
            while not busy.sent:
                await anyio.sleep(0.01)
        failure = Failure()
        tasks.start_soon(failure.of, downstream.request("tools/list", {}, holder="default/bob"))
        await wait_all_tasks_blocked()
        stopped.cancel_scope.cancel()
    assert isinstance(await busy.outcome, Lost)
    assert isinstance(failure.error, DownstreamError)
    assert "was stopped" in str(failure.error)


@pytest.mark.parametrize(
    ("people", "said", "isolation"),
    [
        ([], None, "shared"),
        (PEOPLE[:1], None, "shared"),
        (PEOPLE, None, "principal"),
        (PEOPLE, "shared", "shared"),
        ([], "principal", "principal"),
    ],
)
def test_principals_are_kept_apart_where_there_are_several(workspace, people, said, isolation):
    server = entry(workspace, "modern", **({"isolation": said} if said else {}))
    path = workspace.write_config(settings(server, principals=people))
    (spec,) = load(path, workspace.environment).downstreams
    assert spec.isolation == isolation


def test_who_shares_what_is_no_part_of_a_downstreams_identity(workspace):
    identities = set()
    for more in ({}, {"isolation": "principal"}, {"isolation": "shared", "max_sessions": 3}):
        path = workspace.write_config(settings(entry(workspace, "modern", **more)))
        identities.add(load(path, workspace.environment).downstreams[0].identity)
    assert len(identities) == 1
