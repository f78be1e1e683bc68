"""A result that is not what its tool promised is an error that says so; the tool ran, and what came is kept."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.workspace import SUPPORT

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Outcome, OutcomeKind
from holdfast_tools.output import RECEIVED

SERVER = SUPPORT / "output_server.py"

WRONG = {"content": [{"type": "text", "text": '{"n": "1"}'}], "structuredContent": {"n": "1"}, "_meta": {"a": 1}}
RIGHT = {"content": [], "structuredContent": {"n": 1}}


@pytest.fixture
def promising(opened: Any, workspace: Any) -> Any:
    """An engine over a downstream whose results the test names."""

    @asynccontextmanager
    async def open_promising(**settings: Any) -> AsyncIterator[Any]:
        log = workspace.folder / "calls.log"
        server = {"command": sys.executable, "args": [str(SERVER), str(log)]}
        async with opened(mcpServers={"out": server}, **settings) as inside:
            inside.log = log
            yield inside

    return open_promising


def outcome_of(reply: Any) -> Outcome:
    assert isinstance(reply.call.outcome, Outcome)
    return reply.call.outcome


@pytest.mark.parametrize("tool", ["out__act", "out__look"])
async def test_a_result_that_does_not_fit_is_an_error_that_names_what_is_wrong(promising: Any, tool: str) -> None:
    async with promising() as inside:
        reply = await inside.call(tool, {"result": WRONG})
        outcome = outcome_of(reply)
        assert reply.call.state is State.FAILED
        assert outcome.kind is OutcomeKind.TOOL_ERROR
        assert outcome.payload["isError"] is True
        sentence = outcome.payload["content"][0]["text"]
        assert "/n" in sentence
        assert "ran" in sentence


async def test_what_came_is_kept_whole_with_the_call(promising: Any) -> None:
    async with promising() as inside:
        reply = await inside.call("out__act", {"result": WRONG})
        stored = await inside.until(reply.call.id, State.FAILED)
        payload = stored.outcome.payload
        assert payload["content"][1:] == WRONG["content"]
        assert payload["_meta"] == {"a": 1, RECEIVED: {"structuredContent": {"n": "1"}}}
        assert "structuredContent" not in payload


async def test_a_result_without_structured_content_is_an_error_where_a_schema_promises_it(promising: Any) -> None:
    async with promising() as inside:
        outcome = outcome_of(await inside.call("out__act", {"result": {"content": []}}))
        assert outcome.kind is OutcomeKind.TOOL_ERROR
        assert "no structuredContent" in outcome.payload["content"][0]["text"]


@pytest.mark.parametrize("tool", ["out__act", "out__look"])
async def test_a_result_that_fits_passes_untouched(promising: Any, tool: str) -> None:
    async with promising() as inside:
        assert outcome_of(await inside.call(tool, {"result": RIGHT})) == Outcome(OutcomeKind.RESULT, RIGHT)


async def test_an_error_promises_nothing(promising: Any) -> None:
    error = {"content": [{"type": "text", "text": "no"}], "isError": True}
    async with promising() as inside:
        assert outcome_of(await inside.call("out__act", {"result": error})).payload == error


async def test_the_tool_ran_so_it_is_not_tried_again(promising: Any) -> None:
    async with promising(tools={"out__*": {"retries": {"max_attempts": 3}}}) as inside:
        reply = await inside.call("out__act", {"result": WRONG})
        assert reply.call.state is State.FAILED
        assert inside.log.read_text().splitlines() == ["act"]


async def test_a_repeat_with_the_same_key_is_answered_with_the_same_error(promising: Any) -> None:
    async with promising() as inside:
        first = outcome_of(await inside.call("out__act", {"result": WRONG}, key="k"))
        again = await inside.call("out__act", {"result": WRONG}, key="k")
        assert again.replayed
        assert outcome_of(again) == first
        assert inside.log.read_text().splitlines() == ["act"]


async def test_checking_can_be_turned_off_tool_by_tool(promising: Any) -> None:
    async with promising(tools={"out__act": {"check_output": "off"}}) as inside:
        assert outcome_of(await inside.call("out__act", {"result": WRONG})).payload == WRONG
        assert outcome_of(await inside.call("out__look", {"result": WRONG})).kind is OutcomeKind.TOOL_ERROR


async def test_a_broken_output_schema_takes_nothing_away_and_is_noted(promising: Any) -> None:
    async with promising() as inside:
        assert outcome_of(await inside.call("out__odd", {"result": WRONG})).payload == WRONG
        tool = inside.assembly.catalog.get("out__odd")
        assert "no such type" in tool.output_problem
        assert "outputSchema" not in tool.wire()
        assert inside.assembly.catalog.set_aside() == ()
