"""Watching a downstream's task: what its answers, its errors and its silence amount to."""

from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json, RemoteTask
from holdfast_tools.downstream.attempt import Answered, Lost
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.session import OnAsk
from holdfast_tools.downstream.spec import DownstreamSpec, HttpSpec
from holdfast_tools.remote.asking import LONGEST_POLL_S, SHORTEST_POLL_S, Cancelled, interval_s
from holdfast_tools.remote.core import CoreTask
from holdfast_tools.remote.extension import ExtensionTask
from holdfast_tools.remote.watch import Watch

DEADLINE_S = 10.0
PLENTY_S = 3600.0
RESULT: Json = {"content": []}
ASKS: Json = {"status": "input_required", "inputRequests": {"name": {"method": "elicitation/create"}}}


class Told:
    """A downstream that answers each method by a script, the last line of which it repeats; keeps what it was asked."""

    def __init__(self, **script: list[Json | Exception]) -> None:
        self.asked: list[str] = []
        self._script = {f"tasks/{name}": lines for name, lines in script.items()}

    async def __call__(self, method: str, members: Json, on_ask: OnAsk | None = None) -> Json:
        self.asked.append(method)
        lines = self._script[method]
        line = lines.pop(0) if len(lines) > 1 else lines[0]
        if isinstance(line, Exception):
            raise line
        return {"pollInterval": 1, "pollIntervalMs": 1, **line}


async def nothing(*_: Any) -> Any:
    raise AssertionError("nobody asks here")


def watch(told: Told, *, core: bool, away_s: float = PLENTY_S) -> Watch:
    downstream = Downstream(DownstreamSpec("far", HttpSpec("http://127.0.0.1:9/mcp")), lambda _: None)
    task = RemoteTask("t", core=core)
    dialect = CoreTask("far", task, told, nothing) if core else ExtensionTask("far", task, told, {}, nothing)
    return Watch(downstream, dialect, away_s)


async def found_by(watch: Watch) -> Any:
    with anyio.fail_after(DEADLINE_S):
        return await watch.run()


@pytest.mark.parametrize(
    ("interval_ms", "expected"),
    [(10**400, LONGEST_POLL_S), (-(10**400), SHORTEST_POLL_S), (250, 0.25), (1e308, LONGEST_POLL_S), (True, None)],
)
def test_however_a_downstream_wants_to_be_asked_it_is_asked_within_reason(
    interval_ms: float, expected: float | None
) -> None:
    assert interval_s({"pollInterval": interval_ms}, "pollInterval") == expected


@pytest.mark.parametrize("core", [True, False])
@pytest.mark.parametrize("error", [MCPError(INTERNAL_ERROR, "busy"), DownstreamError("it is away")])
async def test_an_error_that_may_pass_is_waited_out(core: bool, error: Exception) -> None:
    told = Told(get=[error, error, {"status": "completed", "result": RESULT}], result=[RESULT])
    assert (await found_by(watch(told, core=core))).result["content"] == []


@pytest.mark.parametrize("core", [True, False])
@pytest.mark.parametrize("code", [INVALID_PARAMS, METHOD_NOT_FOUND])
async def test_a_task_that_its_downstream_does_not_know_is_lost_at_once(core: bool, code: int) -> None:
    assert isinstance(await found_by(watch(Told(get=[MCPError(code, "unknown")]), core=core)), Lost)


async def test_an_error_that_does_not_pass_is_final_after_a_while() -> None:
    lost = await found_by(watch(Told(get=[MCPError(INTERNAL_ERROR, "busy")]), core=False, away_s=0.0))
    assert "busy" in lost.reason


async def test_the_result_of_a_completed_task_is_asked_for_again_after_an_error_that_may_pass() -> None:
    told = Told(get=[{"status": "completed"}], result=[MCPError(INTERNAL_ERROR, "busy"), RESULT])
    assert isinstance(await found_by(watch(told, core=True)), Answered)


@pytest.mark.parametrize("error", [MCPError(INTERNAL_ERROR, "busy"), DownstreamError("it is away")])
@pytest.mark.parametrize("core", [True, False])
async def test_a_cancel_that_did_not_get_through_is_sent_again(core: bool, error: Exception) -> None:
    told = Told(get=[{"status": "working"}, {"status": "working"}, {"status": "cancelled"}], cancel=[error, {}])
    watching = watch(told, core=core)
    watching.cancel()
    assert isinstance(await found_by(watching), Cancelled)
    assert told.asked.count("tasks/cancel") == 2


@pytest.mark.parametrize("core", [True, False])
async def test_a_cancel_of_a_task_that_has_ended_leaves_its_outcome(core: bool) -> None:
    told = Told(
        get=[{"status": "completed", "result": RESULT}], result=[RESULT], cancel=[MCPError(INVALID_PARAMS, "ended")]
    )
    watching = watch(told, core=core)
    watching.cancel()
    assert isinstance(await found_by(watching), Answered)


async def test_a_task_that_asks_although_it_is_to_be_cancelled_is_watched_on() -> None:
    watching = watch(Told(get=[ASKS, ASKS, {"status": "cancelled"}], cancel=[{}]), core=False)
    watching.cancel()
    assert isinstance(await found_by(watching), Cancelled)


async def test_a_task_that_goes_on_asking_though_it_was_cancelled_is_left_to_that_after_a_while() -> None:
    watching = watch(Told(get=[ASKS], cancel=[{}]), core=False, away_s=0.0)
    watching.cancel()
    assert (await found_by(watching)).result["inputRequests"] == ASKS["inputRequests"]
