"""What Holdfast takes from the SDK's insides."""

import asyncio
from pathlib import Path

import anyio
import pytest
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from opentelemetry import context, trace
from watching import ScriptedServer, outcome, text_of

from holdfast_store.model.errors import EngineError
from holdfast_tools import sdk
from holdfast_tools.downstream.attempt import Answered

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_the_callers_trace_wins_over_one_of_the_task_that_sends(scripted: ScriptedServer) -> None:
    other = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1))
    async with scripted.running() as watched:
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(other)))
        try:
            dispatch = watched.begin("echo", meta={"traceparent": TRACE, "tracestate": "a=1"})
        finally:
            context.detach(token)
        await outcome(dispatch)
    (sent,) = scripted.received("tools/call")
    assert sent["params"]["_meta"]["traceparent"] == TRACE
    assert sent["params"]["_meta"]["tracestate"] == "a=1"


@pytest.mark.parametrize("malformed", ["nonsense", "00-0-0-01", ""])
async def test_a_malformed_trace_passes_without_harm(scripted: ScriptedServer, malformed: str) -> None:
    async with scripted.running() as watched:
        assert isinstance(await watched.call("echo", meta={"traceparent": malformed, "tracestate": 5}), Answered)


async def test_a_call_does_not_change_the_meta_it_was_given(scripted: ScriptedServer) -> None:
    meta = {"vendor/a": {"b": 1}}
    async with scripted.running() as watched:
        await watched.call("echo", meta=meta)
    assert meta == {"vendor/a": {"b": 1}}


async def test_hundreds_of_calls_at_once_each_get_their_own_answer(scripted: ScriptedServer) -> None:
    async with scripted.running() as watched:
        dispatches = [watched.begin("echo", read_only=False, n=number) for number in range(300)]
        with anyio.fail_after(30):
            await asyncio.gather(*(asyncio.shield(dispatch.outcome) for dispatch in dispatches))
        for number, dispatch in enumerate(dispatches):
            assert f'"n": {number}}}' in text_of(dispatch.outcome.result())


@pytest.mark.parametrize(
    ("error", "made_up"),
    [
        (MCPError(-32000, "Connection closed"), True),
        (MCPError(-32000, "SSE stream ended without a response"), True),
        (MCPError(-32700, "Failed to parse SSE message: x"), True),
        (MCPError(-32000, "on purpose"), False),
        (MCPError(-32700, "Parse error"), False),
        (MCPError(-32603, "Internal error"), False),
    ],
)
def test_errors_that_stand_in_for_an_answer_are_told_from_real_ones(error: MCPError, made_up: bool) -> None:
    assert sdk.made_up(error) is made_up


def test_the_stand_ins_are_still_worded_as_the_sdk_words_them() -> None:
    folder = Path(JSONRPCDispatcher.send_raw_request.__code__.co_filename).parents[1]
    source = (folder / "client" / "streamable_http.py").read_text() + (
        folder / "shared" / "jsonrpc_dispatcher.py"
    ).read_text()
    ours = {sdk.UNREADABLE}
    for _, starts in sdk._STAND_INS:
        for start in starts:
            assert start in ours or start in source


def test_an_sdk_without_a_seam_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = {name: kind for name, kind in CallOptions.__annotations__.items() if name != "cancel_on_abandon"}
    monkeypatch.setattr(CallOptions, "__annotations__", annotations)
    with pytest.raises(EngineError, match=r"CallOptions\['cancel_on_abandon'\].*install mcp>=2\.3,<2\.4"):
        sdk._require_seams()
