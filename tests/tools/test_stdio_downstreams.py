"""A child process as a downstream, and everything such a child can do wrong."""

import logging
import os
import signal
import sys
from typing import Any

import anyio
import pytest
from support.processes import alive
from watching import DEADLINE_S, ScriptedServer, Watched, outcome, running, text_of, until

from holdfast_tools.downstream import stdio
from holdfast_tools.downstream.attempt import Answered, Lost, NotSent
from holdfast_tools.downstream.lines import LineSplitter
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec

ERAS = pytest.mark.parametrize("era", [(), ("--legacy",)], ids=["2026-07-28", "2025-11-25"])


@ERAS
async def test_both_eras_are_negotiated_and_every_page_is_listed_untouched(
    scripted: ScriptedServer, era: tuple[str, ...]
) -> None:
    async with scripted.running(*era) as watched:
        status = watched.downstream.status
        assert status.state == "connected"
        assert status.protocol_version == ("2025-11-25" if era else "2026-07-28")
        assert status.pid is not None
        (record,) = watched.records
    assert record.downstream == "scripted"
    assert record.tools[-1]["name"] == "extra_0"
    assert record.tools[0]["inputSchema"]["$defs"] == {"kept": {"type": "string"}}
    assert record.tools[0]["x-unknown"] == {"kept": True}


@ERAS
async def test_the_callers_trace_and_meta_reach_the_downstream_but_not_its_connection(
    scripted: ScriptedServer, era: tuple[str, ...]
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    meta = {
        "traceparent": trace,
        "vendor/own": {"a": 1},
        "progressToken": 7,
        "io.modelcontextprotocol/clientInfo": {"name": "x"},
    }
    async with scripted.running(*era) as watched:
        await watched.call("echo", meta=meta, n=1)
    (sent,) = scripted.received("tools/call")
    received = sent["params"]["_meta"]
    assert received["traceparent"] == trace
    assert received["vendor/own"] == {"a": 1}
    assert "progressToken" not in received
    if era:
        assert "io.modelcontextprotocol/clientInfo" not in received
    else:
        assert "io.modelcontextprotocol/clientInfo" not in received
        assert received["io.modelcontextprotocol/clientCapabilities"] == {}
        assert received["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert sent["params"]["arguments"] == {"n": 1}


async def test_errors_and_error_results_of_the_server_are_answers(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        failed = await watched.call("fail")
        declined = await watched.call("decline")
    assert failed == Answered(error={"code": -32000, "message": "on purpose", "data": {"why": "asked to"}})
    assert isinstance(declined, Answered)
    assert declined.result is not None
    assert declined.result["isError"] is True


async def test_progress_is_handed_on(scripted: ScriptedServer) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with scripted.running() as watched:
        dispatch = watched.downstream.dispatch("progress", {}, meta={}, on_progress=note, read_only=True)
        await outcome(dispatch)
        await until(lambda: bool(seen), "the progress")
    assert seen == [(1.0, 2.0, "half")]


@ERAS
async def test_a_log_message_that_could_belong_to_another_request_is_told_to_nobody(
    scripted: ScriptedServer, era: tuple[str, ...]
) -> None:
    heard: list[Any] = []

    async def say(watched: Watched, words: str) -> None:
        arguments = {"words": words}
        said = watched.downstream.dispatch("say", arguments, meta={}, on_message=heard.append, read_only=True)
        assert text_of(await outcome(said)) == "done"

    async with scripted.running(*era) as watched:
        other = watched.begin("wait")
        await until(lambda: bool(scripted.received("tools/call")), "the other call")
        await say(watched, "whose is this?")
        await watched.call("release")
        await outcome(other)
        await say(watched, "mine")
        await until(lambda: bool(heard), "the message")
    assert [message["data"] for message in heard] == ["mine"]


async def test_an_abandoned_read_is_cancelled_at_the_downstream(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        dispatch = watched.begin("wait", read_only=True)
        await until(lambda: bool(scripted.received("tools/call")), "the call")
        assert dispatch.sent
        dispatch.abandon()
        assert isinstance(await outcome(dispatch), Lost)
        await until(lambda: bool(scripted.cancelled()), "the cancel")


async def test_an_abandoned_write_is_never_cancelled_at_the_downstream(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        dispatch = watched.begin("wait", read_only=False)
        await until(lambda: bool(scripted.received("tools/call")), "the call")
        dispatch.abandon()
        assert isinstance(await outcome(dispatch), Lost)
        assert text_of(await watched.call("echo")) != ""
    assert scripted.cancelled() == []


async def test_a_write_is_awaited_however_late_its_answer(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        dispatch = watched.begin("wait", read_only=False)
        await until(lambda: bool(scripted.received("tools/call")), "the call")
        assert not dispatch.outcome.done()
        await watched.call("release")
        assert text_of(await outcome(dispatch)) == "released"


async def test_a_child_killed_in_mid_call_loses_the_answer_and_is_started_again(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        first = watched.downstream.status.pid
        assert first is not None
        dispatch = watched.begin("wait", read_only=False)
        await until(lambda: bool(scripted.received("tools/call")), "the call")
        os.kill(first, signal.SIGKILL)
        lost = await outcome(dispatch)
        assert isinstance(lost, Lost)
        assert "SIGKILL" in lost.reason
        assert lost.reason.startswith("scripted: ")
        assert await watched.downstream.connected(DEADLINE_S)
        assert watched.downstream.status.pid != first
        assert isinstance(await watched.call("echo"), Answered)


async def test_a_grandchild_that_holds_stdout_delays_nothing_and_does_not_survive(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        grandchild = int(text_of(await watched.call("fork")))
        assert alive(grandchild)
        with anyio.fail_after(5):
            lost = await watched.call("die", read_only=False)
        assert isinstance(lost, Lost)
        assert await watched.downstream.connected(DEADLINE_S)
        assert not alive(grandchild)


async def test_what_a_child_wrote_before_it_died_is_still_an_answer(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        await watched.call("fork")
        answer = await watched.call("answer_and_die", read_only=False)
    assert text_of(answer) == "last words" * 5000


async def test_a_stdout_that_closes_ends_the_connection(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        lost = await watched.call("close_stdout", read_only=False)
        assert isinstance(lost, Lost)
        assert "closed its stdout" in lost.reason
        assert await watched.downstream.connected(DEADLINE_S)


async def test_nothing_of_a_child_is_left_when_its_owner_stops(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        grandchild = int(text_of(await watched.call("fork")))
        child = watched.downstream.status.pid
        assert child is not None
    assert watched.downstream.status.state == "stopped"
    assert not alive(grandchild)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_a_child_deaf_to_everything_is_killed(scripted: ScriptedServer) -> None:
    with anyio.fail_after(15):
        async with scripted.running("--deaf") as watched:
            child = watched.downstream.status.pid
            assert child is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_calls_under_way_are_concluded_when_the_owner_stops(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        sent = watched.begin("wait", read_only=False)
        await until(lambda: bool(scripted.received("tools/call")), "the call")
        unsent = watched.begin("wait", read_only=False)
    assert isinstance(sent.outcome.result(), Lost)
    assert isinstance(unsent.outcome.result(), NotSent)
    assert isinstance(await watched.call("echo"), NotSent)


async def test_banners_and_other_noise_on_stdout_are_skipped_and_logged_once(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holdfast.downstream"):
        async with scripted.running("--banner") as watched:
            assert isinstance(await watched.call("echo"), Answered)
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 3
    assert any("Welcome to the scripted server!" in line for line in logged)
    assert any("not UTF-8" in line for line in logged)
    assert any("not JSON-RPC" in line for line in logged)


async def test_an_answer_that_is_not_utf8_still_arrives(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        answer = await watched.call("not_utf8")
    assert isinstance(answer, Answered)
    assert answer.result is not None
    assert answer.result["note"] == "caf\N{REPLACEMENT CHARACTER}"


async def test_an_answer_that_is_no_answer_is_lost_at_once(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        lost = await watched.call("broken", read_only=False)
        assert isinstance(lost, Lost)
        assert "not JSON-RPC" in lost.reason
        assert isinstance(await watched.call("echo"), Answered)


async def test_numbers_that_json_cannot_carry_become_null(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        answer = await watched.call("nan")
    assert isinstance(answer, Answered)
    assert answer.result is not None
    assert answer.result["structuredContent"] == {"a": [1.5, None], "b": None}


async def test_fifty_megabytes_arrive(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        assert len(text_of(await watched.call("big", bytes=50_000_000))) == 50_000_000
        crowd = await watched.call("crowd", items=200_000)
    assert isinstance(crowd, Answered)
    assert crowd.result is not None
    assert len(crowd.result["content"]) == 200_000


async def test_an_answer_beyond_the_limit_is_lost_and_the_connection_goes_on(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "LineSplitter", lambda: LineSplitter(100_000))
    async with scripted.running() as watched:
        lost = await watched.call("big", bytes=200_000, read_only=False)
        assert isinstance(lost, Lost)
        assert "longer than" in lost.reason
        assert isinstance(await watched.call("echo"), Answered)


async def test_large_arguments_are_written_whole(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        answers = [watched.begin("echo", read_only=False, text="y" * 3_000_000) for _ in range(3)]
        for answer in answers:
            assert len(text_of(await outcome(answer))) > 3_000_000


@ERAS
async def test_a_burst_of_changes_is_listed_once(scripted: ScriptedServer, era: tuple[str, ...]) -> None:
    async with scripted.running(*era) as watched:
        if not era:
            await until(lambda: bool(scripted.received("subscriptions/listen")), "the subscription")
        await watched.call("change", times=5)
        await watched.listed(2)
        assert watched.records[-1].tools[-1]["name"] == "extra_1"
        await watched.call("change", times=1)
        await watched.listed(3)
    assert len(watched.records) == 3


async def test_a_command_that_does_not_exist_is_named_with_its_mend() -> None:
    async with running(DownstreamSpec("absent", StdioSpec("no-such-command"))) as watched:
        assert watched.downstream.status.state == "failed"
        attempt = await watched.call("anything")
        assert not await watched.downstream.connected(DEADLINE_S)
    assert isinstance(attempt, NotSent)
    assert "'absent'" in attempt.reason
    assert "'no-such-command' was not found" in attempt.reason
    assert "install it, or give its full path" in attempt.reason


async def test_a_folder_that_does_not_exist_is_named() -> None:
    spec = DownstreamSpec("lost", StdioSpec(sys.executable, cwd="/no/such/folder"))
    async with running(spec) as watched:
        assert "cwd '/no/such/folder' is not a folder" in (watched.downstream.status.reason or "")


async def test_a_server_that_dies_at_once_is_shown_with_its_last_words() -> None:
    program = "import sys; print('this needs mcp<2', file=sys.stderr); sys.exit(3)"
    spec = DownstreamSpec("sqlite", StdioSpec(sys.executable, ("-c", program)))
    async with running(spec) as watched:
        status = watched.downstream.status
        attempt = await watched.call("query")
    assert status.state == "failed"
    assert status.attempts >= 1
    assert status.reason == "its process exited with code 3"
    assert status.stderr_tail == ("this needs mcp<2",)
    assert isinstance(attempt, NotSent)
    assert "'sqlite' could not be connected: its process exited with code 3" in attempt.reason
    assert "this needs mcp<2" in attempt.reason


async def test_a_server_that_never_answers_fails_by_the_clock() -> None:
    silent = StdioSpec(sys.executable, ("-c", "import sys; sys.stdin.read()"))
    spec = DownstreamSpec("silent", silent, connect_timeout_s=0.5)
    async with running(spec) as watched:
        assert "within 0.5 s" in (watched.downstream.status.reason or "")
        assert watched.downstream.status.state == "failed"


async def test_secrets_of_the_environment_are_blotted_out_of_what_is_shown(scripted: ScriptedServer) -> None:
    async with scripted.running(TOKEN="s3cret-value") as watched:
        lost = await watched.call("die", read_only=False)
    assert isinstance(lost, Lost)
    assert "token is ***" in lost.reason
    assert "s3cret-value" not in lost.reason
