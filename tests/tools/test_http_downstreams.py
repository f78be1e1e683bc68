"""A streamable HTTP endpoint as a downstream: both eras, restarts, and every way in which an answer can go missing."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from watching import DEADLINE_S, HttpServer, http_spec, outcome, running, text_of, until

from holdfast_tools.downstream.attempt import Answered, Attempt, Lost, NotSent

ERAS = pytest.mark.parametrize("era", [(), ("--legacy",)], ids=["2026-07-28", "2025-11-25"])


@ERAS
async def test_both_eras_are_negotiated(http_server: HttpServer, era: tuple[str, ...]) -> None:
    http_server.start(*era)
    async with running(http_spec(http_server.port)) as watched:
        status = watched.downstream.status
        assert status.state == "connected", status
        assert status.protocol_version == ("2025-11-25" if era else "2026-07-28")
        assert status.server_name == "over-http"
        assert watched.records[0].tools[0]["inputSchema"]["$defs"] == {"kept": {"type": "string"}}
        answer = json.loads(text_of(await watched.call("echo", region="eu")))
        assert answer["arguments"] == {"region": "eu"}


async def test_headers_of_the_config_and_of_the_era_are_sent_and_our_own_mark_is_not(http_server: HttpServer) -> None:
    http_server.start()
    async with running(http_spec(http_server.port, authorization="Bearer abc")) as watched:
        headers = json.loads(text_of(await watched.call("headers", region="eu-1")))
    assert headers["authorization"] == "Bearer abc"
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"] == "headers"
    assert headers["mcp-param-region"] == "eu-1"
    assert not [name for name in headers if "holdfast" in name]


@ERAS
async def test_the_callers_trace_reaches_the_server(http_server: HttpServer, era: tuple[str, ...]) -> None:
    http_server.start(*era)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running(http_spec(http_server.port)) as watched:
        answer = json.loads(text_of(await watched.call("echo", meta={"traceparent": trace})))
    assert answer["meta"]["traceparent"] == trace


@ERAS
async def test_a_server_killed_in_mid_call_loses_the_answer(http_server: HttpServer, era: tuple[str, ...]) -> None:
    http_server.start(*era)
    async with running(http_spec(http_server.port)) as watched:
        dispatch = watched.begin("wait", read_only=False)
        await until(lambda: http_server.noted("wait") == 1, "the call")
        assert dispatch.sent
        with anyio.fail_after(DEADLINE_S):
            assert isinstance(await watched.call("die", read_only=False), Lost)
            assert isinstance(await outcome(dispatch), Lost)


@ERAS
async def test_a_server_restarted_on_its_port_is_taken_up_again(http_server: HttpServer, era: tuple[str, ...]) -> None:
    first = http_server.start(*era)
    async with running(http_spec(http_server.port)) as watched:
        assert isinstance(await watched.call("echo"), Answered)
        first.kill()
        refused = await watched.call("echo", read_only=False)
        assert isinstance(refused, NotSent), refused
        assert refused.reason.startswith(("remote: ", "the downstream 'remote'"))
        http_server.start(*era)
        assert await watched.downstream.connected(DEADLINE_S)
        assert isinstance(await watched.call("echo", read_only=False), Answered)


@ERAS
async def test_a_restart_that_nobody_noticed_sends_nothing_twice(http_server: HttpServer, era: tuple[str, ...]) -> None:
    first = http_server.start("--json", *era)
    async with running(http_spec(http_server.port)) as watched:
        assert isinstance(await watched.call("echo"), Answered)
        first.kill()
        http_server.start("--json", *era)
        answers: list[Attempt] = []
        with anyio.fail_after(DEADLINE_S):
            while not any(isinstance(answer, Answered) for answer in answers):
                await watched.downstream.connected(DEADLINE_S)
                answers.append(await watched.call("big", read_only=False, bytes=3))
    assert not [answer for answer in answers if isinstance(answer, Lost)]
    assert isinstance(answers[-1], Answered)
    assert answers[-1].error is None
    assert http_server.noted("big") == 1


async def test_a_server_that_is_not_there_fails_with_the_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with running(http_spec(port)) as watched:
        status = watched.downstream.status
        attempt = await watched.call("anything")
    assert status.state == "failed"
    assert "cannot be reached" in (status.reason or "")
    assert isinstance(attempt, NotSent)
    assert "'remote'" in attempt.reason


@ERAS
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["sse", "json"])
async def test_a_large_result_arrives(http_server: HttpServer, era: tuple[str, ...], form: tuple[str, ...]) -> None:
    http_server.start(*era, *form)
    async with running(http_spec(http_server.port)) as watched:
        assert len(text_of(await watched.call("big", bytes=8_000_000))) == 8_000_000


@ERAS
async def test_an_abandoned_read_is_cancelled_and_an_abandoned_write_is_not(
    http_server: HttpServer, era: tuple[str, ...]
) -> None:
    http_server.start(*era)
    async with running(http_spec(http_server.port)) as watched:
        write = watched.begin("wait", read_only=False)
        await until(lambda: http_server.noted("wait") == 1, "the write")
        read = watched.begin("wait", read_only=True)
        await until(lambda: http_server.noted("wait") == 2, "the read")
        write.abandon()
        read.abandon()
        assert isinstance(await outcome(read), Lost)
        assert isinstance(await outcome(write), Lost)
        await until(lambda: http_server.noted("cancelled") == 1, "the cancel")
        assert isinstance(await watched.call("echo"), Answered)
        assert http_server.noted("cancelled") == 1


@ERAS
async def test_a_changed_listing_is_seen(http_server: HttpServer, era: tuple[str, ...]) -> None:
    http_server.start(*era)
    async with running(http_spec(http_server.port)) as watched:
        await watched.call("change")
        await watched.listed(2)
        if watched.records[-1].tools[-1]["name"] != "extra_1":
            await watched.listed(3)
    assert watched.records[-1].tools[-1]["name"] == "extra_1"


async def test_a_call_under_way_outlives_the_loss_of_another(http_server: HttpServer) -> None:
    """One broken connection must not put the calls on the others in doubt."""
    finish = anyio.Event()
    replies: dict[str, Response | anyio.Event] = {"slow": finish}
    async with answering(replies) as port, running(http_spec(port)) as watched:
        slow = watched.begin("slow", read_only=False)
        await until(lambda: "slow" in SEEN, "the slow call")
        replies["bad"] = PlainTextResponse("upstream gone", 502)
        assert isinstance(await watched.call("bad", read_only=False), Lost)
        assert await watched.downstream.connected(DEADLINE_S)
        finish.set()
        assert isinstance(await outcome(slow), Answered)


async def test_answers_lost_one_after_the_other_do_not_keep_the_downstream_away() -> None:
    at_once = anyio.Event()
    at_once.set()
    replies: dict[str, Response | anyio.Event] = {"bad": PlainTextResponse("no", 502), "good": at_once}
    async with answering(replies) as port, running(http_spec(port)) as watched:
        with anyio.fail_after(10):
            for _ in range(12):
                assert isinstance(await watched.call("good"), Answered)
                assert isinstance(await watched.call("bad"), Lost)
                assert await watched.downstream.connected(DEADLINE_S)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (500, Lost, "HTTP 500 Internal Server Error"),
        (502, Lost, "HTTP 502 Bad Gateway"),
        (503, Lost, "HTTP 503 Service Unavailable"),
        (504, Lost, "HTTP 504 Gateway Timeout"),
        (202, Lost, "HTTP 202 Accepted"),
        (200, Lost, "without a JSON-RPC answer"),
        (401, Answered, "HTTP 401 Unauthorized; check its `headers`"),
        (429, Answered, "HTTP 429 Too Many Requests"),
    ],
)
async def test_an_http_answer_that_is_no_json_rpc_is_what_its_status_says(
    status: int, kind: type[Attempt], words: str
) -> None:
    async with answering({"tool": PlainTextResponse("oops", status)}) as port, running(http_spec(port)) as watched:
        attempt = await watched.call("tool", read_only=False)
    assert isinstance(attempt, kind), attempt
    assert words in (str(attempt.error) if isinstance(attempt, Answered) else attempt.reason)


async def test_a_json_rpc_error_with_an_http_error_status_is_the_servers_answer() -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32602, "message": "bad params"}}
    async with answering({"tool": JSONResponse(error, 500)}) as port, running(http_spec(port)) as watched:
        attempt = await watched.call("tool", read_only=False)
    assert attempt == Answered(error={"code": -32602, "message": "bad params"})


async def test_an_outdated_header_declaration_is_mended_by_listing_again() -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32020, "message": "Mcp-Param-Region is missing"}}
    async with answering({"tool": JSONResponse(error, 400)}) as port, running(http_spec(port)) as watched:
        attempt = await watched.call("tool", read_only=False)
        assert isinstance(attempt, NotSent)
        await watched.listed(2)


async def test_an_answer_cut_off_in_the_middle_is_lost() -> None:
    async with answering({"tool": CutOff()}) as port, running(http_spec(port)) as watched:
        attempt = await watched.call("tool", read_only=False)
    assert isinstance(attempt, Lost)
    assert "broke before the answer was complete" in attempt.reason


SEEN: set[str] = set()
"""Names of the tools that `answering` was asked for."""


class CutOff(Response):
    """Promises more than it sends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"jsonrpc": "2.0", ', "more_body": True})
        raise ConnectionAbortedError


@asynccontextmanager
async def answering(replies: dict[str, Response | anyio.Event]) -> AsyncIterator[int]:
    """A server of the stateless era on the port it yields, whose tools answer as `replies` says."""
    SEEN.clear()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        message = await request.json() if request.method == "POST" else {}
        await (await reply_to(message))(scope, receive, send)

    async def reply_to(message: dict[str, object]) -> Response:
        match message:
            case {"method": "server/discover"}:
                result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0}
            case {"method": "tools/list"}:
                result = {"tools": []}
            case {"method": "tools/call", "params": {"name": str(name)}}:
                SEEN.add(name)
                reply = replies[name]
                if isinstance(reply, Response):
                    return reply
                await reply.wait()
                result = {"content": []}
            case _:
                return Response(status_code=405)
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {**result, "resultType": "complete"}})

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        yield listening.getsockname()[1]
        server.should_exit = True
