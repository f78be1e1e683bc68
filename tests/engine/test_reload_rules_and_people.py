"""Rules, principals and limits change under an engine: for new calls, parked ones, and connections that are open."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ToolListChangedNotification
from reloading import DEADLINE_S, Heard, Reloadable, call_id, names, until, words
from support.processes import Processes
from support.workspace import Workspace

from holdfast_store.model.errors import WrongState

ANNA = {"id": "anna", "token": "the-token-of-anna-1", "roles": ["approver"]}
BEN = {"id": "ben", "token": "the-token-of-ben-12", "roles": ["reader"]}
ASK_FOR_WRITES = {"id": "ask", "effect": "require_approval", "match": {"tool": "ledger__write"}}


class Stream:
    """What came on a stream, and whether it has ended."""

    def __init__(self) -> None:
        self.news: list[Any] = []
        self.ended = asyncio.Event()


@pytest.fixture
def engine(workspace: Workspace, processes: Processes) -> Reloadable:
    return Reloadable(workspace, processes)


async def post(engine: Reloadable, body: str, token: str | None = None) -> int:
    """The HTTP status of a bare request."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    async with httpx2.AsyncClient(timeout=DEADLINE_S) as http:
        return (await http.post(f"{engine.url}/mcp", content=body, headers=headers)).status_code


async def test_a_new_rule_makes_a_tool_ask(engine: Reloadable) -> None:
    engine.serve_http()
    async with engine.over_http() as client:
        assert words(await client.call_tool("ledger__write", {"n": 1})).startswith("write 1")
        engine.write(rules=[ASK_FOR_WRITES])
        assert (await engine.reload())["rules"] == {"added": ["ask"], "removed": [], "changed": []}
        parked = call_id(await client.call_tool("ledger__write", {"n": 2}))
        assert (await engine.settled(parked))["status"] == "waiting_for_approval"
        engine.write()
        await engine.reload()
        assert words(await client.call_tool("ledger__write", {"n": 3})).startswith("write 3")
        await engine.approve(parked)
        assert (await engine.settled(parked))["status"] == "done"


async def test_a_deny_that_was_added_wins_when_a_parked_call_is_approved(engine: Reloadable) -> None:
    engine.serve_http(rules=[ASK_FOR_WRITES])
    async with engine.over_http() as client:
        parked = call_id(await client.call_tool("ledger__write", {"n": 1}))
        engine.write(rules=[{**ASK_FOR_WRITES, "effect": "deny"}])
        assert (await engine.reload())["rules"]["changed"] == ["ask"]
        with pytest.raises(WrongState, match="Policy denies this call now"):
            await engine.approve(parked)
    assert (await engine.settled(parked))["status"] == "failed"
    assert engine.workspace.ledger.effects() == []


async def test_a_removed_token_is_refused_at_once_on_open_connections_as_well(engine: Reloadable) -> None:
    engine.serve_http(principals=[ANNA, BEN])
    async with (
        engine.over_http("legacy", token=ANNA["token"]) as anna,
        engine.over_http("legacy", token=BEN["token"]) as ben,
    ):
        assert await names(anna) == await names(ben)
        engine.write(principals=[ANNA])
        assert (await engine.reload())["principals"]["removed"] == ["ben"]
        assert "ledger__read" in await names(anna)
        with pytest.raises((MCPError, httpx2.HTTPStatusError)):
            await ben.list_tools()
    assert await post(engine, "{}", str(BEN["token"])) == 401


async def test_another_token_takes_the_place_of_the_old_one(engine: Reloadable) -> None:
    engine.serve_http(principals=[ANNA])
    engine.write(principals=[{**ANNA, "token": "another-token-of-hers"}])
    assert (await engine.reload())["principals"]["changed"] == ["anna"]
    assert await post(engine, "{}", str(ANNA["token"])) == 401
    assert await post(engine, "{}", "another-token-of-hers") != 401


async def test_the_first_principal_has_everybody_bring_a_token(engine: Reloadable) -> None:
    engine.serve_http()
    assert await post(engine, "{}") != 401
    engine.write(principals=[ANNA])
    await engine.reload()
    assert await post(engine, "{}") == 401
    assert await post(engine, "{}", str(ANNA["token"])) != 401
    engine.write()
    await engine.reload()
    assert await post(engine, "{}") != 401


async def test_a_connection_of_a_removed_principal_is_refused_from_its_next_request_on(engine: Reloadable) -> None:
    engine.write(principals=[ANNA, BEN])
    async with engine.over_stdio("auto", "--as", "ben") as client, engine.over_stdio() as local:
        assert await names(client)
        engine.write(principals=[ANNA])
        await engine.reload()
        for attempt in (client.list_tools, lambda: client.call_tool("ledger__write", {"n": 1})):
            with pytest.raises(MCPError, match="taken out of the config"):
                await attempt()
        assert await names(local)
        engine.write(principals=[ANNA, BEN])
        await engine.reload()
        assert await names(client)
    assert engine.workspace.ledger.effects() == []


async def test_changed_roles_count_from_the_next_request_of_an_open_connection_on(engine: Reloadable) -> None:
    rule = {"id": "readers", "effect": "deny", "match": {"tool": "ledger__write", "roles": ["reader"]}}
    engine.write(principals=[ANNA, BEN], rules=[rule])
    async with engine.over_stdio("legacy", "--as", "ben") as client:
        assert (await client.call_tool("ledger__write", {"n": 1})).is_error
        engine.write(principals=[ANNA, {**BEN, "roles": ["writer"]}], rules=[rule])
        await engine.reload()
        assert not (await client.call_tool("ledger__write", {"n": 2})).is_error


@asynccontextmanager
async def listening(client: Client) -> AsyncIterator[Stream]:
    """What a client is told on a stream of its own, until the block or the stream ends."""
    stream = Stream()

    async def collect(subscription: AsyncIterable[Any]) -> None:
        async for event in subscription:
            stream.news.append(event)
        stream.ended.set()

    async with client.listen(tools_list_changed=True) as subscription, anyio.create_task_group() as tasks:
        tasks.start_soon(collect, subscription)
        yield stream
        tasks.cancel_scope.cancel()


async def test_a_stream_that_was_opened_with_a_token_ends_with_it(engine: Reloadable) -> None:
    engine.serve_http(principals=[ANNA, BEN])
    heard = Heard()
    async with (
        engine.over_http(token=ANNA["token"]) as anna,
        engine.over_http("legacy", token=ANNA["token"], message_handler=heard) as anna_of_old,
        engine.over_http(token=BEN["token"]) as ben,
        engine.over_stdio("auto", "--as", "anna") as anna_at_home,
        listening(anna) as withdrawn,
        listening(ben) as kept,
        listening(anna_at_home) as local,
    ):
        assert await names(anna_of_old)
        people = [{**ANNA, "token": "another-token-of-hers"}, BEN]
        ledger = engine.workspace.ledger_downstream()
        engine.write(principals=people, mcpServers={"ledger": ledger, "second": ledger})
        await engine.reload()
        with anyio.fail_after(DEADLINE_S):
            await withdrawn.ended.wait()
        await until(lambda: bool(kept.news and local.news), "the news")
        assert not kept.ended.is_set()
        assert not local.ended.is_set()
    assert heard.count(ToolListChangedNotification) == 0


async def test_a_stream_of_nobody_ends_once_everybody_brings_a_token(engine: Reloadable) -> None:
    engine.serve_http()
    async with (
        engine.over_http() as nobody,
        engine.over_stdio() as local,
        listening(nobody) as withdrawn,
        listening(local) as kept,
    ):
        ledger = engine.workspace.ledger_downstream()
        engine.write(principals=[ANNA], mcpServers={"ledger": ledger, "second": ledger})
        await engine.reload()
        with anyio.fail_after(DEADLINE_S):
            await withdrawn.ended.wait()
        await until(lambda: bool(kept.news), "the news")
        assert not kept.ended.is_set()


async def test_limits_and_names_change_as_well(engine: Reloadable) -> None:
    engine.serve_http(limits={"max_arguments_bytes": 2048})
    big = {"n": 1, "ref": "x" * 100_000}
    async with engine.over_http() as client:
        with pytest.raises((MCPError, httpx2.HTTPStatusError)):
            await client.call_tool("ledger__write", big)
        engine.write(limits={"max_arguments_bytes": 200_000}, naming={"prefix": False})
        assert set((await engine.reload())["settings"]) == {"limits.max_arguments_bytes", "naming.prefix"}
        assert "write" in await names(client)
        assert words(await client.call_tool("write", big)).startswith("write 1")
