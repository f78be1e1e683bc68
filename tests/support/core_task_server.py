"""A downstream of 2025-11-25 with core tasks, on stdio or on loopback HTTP: it knows no other era.

    PYTHONPATH=tests python -m support.core_task_server LEDGER [--http PORT] [--without TOOL]

With ``--http`` (0 picks a port) it prints ``listening on http://127.0.0.1:PORT/mcp`` once it serves. Every call of a
tool is an effect in LEDGER; tasks live in this process, whatever session made them. Each tool works until its
`delay_ms` are over; `ask` asks for a name first.
"""

import argparse
import asyncio
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from support.ledger import Ledger
from support.ledger_server import schema, serving_http, text

Context = ServerRequestContext[Any, Any]
Json = dict[str, Any]

CAPABILITY: Json = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
RELATED_TASK = "io.modelcontextprotocol/related-task"
POLL_INTERVAL_MS = 50

SUPPORT: Mapping[str, Literal["optional", "required"]] = {
    "job": "required",
    "look": "required",
    "ask": "required",
    "fail": "required",
    "break": "required",
    "either": "optional",
}
READ_ONLY = "look"


def _tool(name: str, support: Literal["optional", "required"]) -> types.Tool:
    return types.Tool(
        name=name,
        input_schema=schema([], n={"type": "integer"}, delay_ms={"type": "integer", "minimum": 0}),
        annotations=types.ToolAnnotations(read_only_hint=name == READ_ONLY, destructive_hint=False),
        execution=types.ToolExecution(task_support=support),
    )


TOOLS = tuple(_tool(name, support) for name, support in SUPPORT.items())


class TaskParams(types.RequestParams):
    task_id: str


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class Task:
    """One task; `question` is what it waits to be answered, `outcome` a result or the error it ended with."""

    ttl: int | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: types.TaskStatus = "working"
    created_at: str = field(default_factory=_now)
    question: str | None = None
    answer: "asyncio.Future[Json]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    outcome: types.CallToolResult | MCPError | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    asking: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def wire(self) -> Json:
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created_at,
            "lastUpdatedAt": _now(),
            "ttl": self.ttl,
            "pollInterval": POLL_INTERVAL_MS,
        }

    def end(self, status: types.TaskStatus, outcome: types.CallToolResult | MCPError | None = None) -> None:
        self.status, self.outcome = status, outcome
        self.ended.set()


class CoreTaskServer:
    """The tools over one ledger, each call a task where it asks for that."""

    def __init__(self, ledger: Ledger, without: str | None = None) -> None:
        self._ledger = ledger
        self._tools = [tool for tool in TOOLS if tool.name != without]
        self._tasks: dict[str, Task] = {}
        self.server: Server[Any] = Server(
            "core-tasks", version="1", on_list_tools=self._list, on_call_tool=self._call_plainly
        )
        self.server.middleware.append(self._tasks_of_calls)
        self.server.add_request_handler("server/discover", types.RequestParams, _unknown)
        self.server.add_request_handler("tasks/get", TaskParams, self._get)
        self.server.add_request_handler("tasks/result", TaskParams, self._result)
        self.server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    async def _tasks_of_calls(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        params = ctx.params or {}
        if ctx.method == "tools/call" and isinstance(params.get("task"), dict):
            task = Task(ttl=params["task"].get("ttl"))
            self._tasks[task.id] = task
            task.running = asyncio.create_task(self._run(task, params["name"], params.get("arguments") or {}))
            return {"task": task.wire()}
        result = await call_next(ctx)
        if ctx.method == "initialize" and isinstance(result, dict):
            return {**result, "capabilities": {**result["capabilities"], "tasks": CAPABILITY}}
        return result

    async def _run(self, task: Task, tool: str, arguments: Json) -> None:
        effect = uuid.uuid4().hex
        self._ledger.begin(effect, tool, arguments)
        name = ""
        if tool == "ask":
            task.question, task.status = "What is your name?", "input_required"
            task.asking.set()
            answered = await task.answer
            task.question, task.status = None, "working"
            name = f" for {answered.get('content', {}).get('name', 'nobody')}"
        await asyncio.sleep(arguments.get("delay_ms", 0) / 1000)
        self._ledger.done(effect)
        if tool == "break":
            task.end("failed", MCPError(INTERNAL_ERROR, "broken on purpose", {"tool": tool}))
        else:
            done = text(f"{tool} {arguments.get('n')}{name}", is_error=tool == "fail")
            task.end("failed" if tool == "fail" else "completed", done)

    async def _list(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self._tools)

    async def _call_plainly(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        if SUPPORT.get(params.name) != "optional":
            raise MCPError(METHOD_NOT_FOUND, f"{params.name} must be called as a task")
        arguments = params.arguments or {}
        effect = uuid.uuid4().hex
        self._ledger.begin(effect, params.name, arguments)
        await asyncio.sleep(arguments.get("delay_ms", 0) / 1000)
        self._ledger.done(effect)
        return text(f"{params.name} {arguments.get('n')} plainly")

    async def _get(self, ctx: Context, params: TaskParams) -> Json:
        return self._find(params).wire()

    async def _result(self, ctx: Context, params: TaskParams) -> Json:
        task = self._find(params)
        while not task.ended.is_set():
            if task.question is not None and not task.answer.done():
                await self._ask(ctx, task, task.question)
            waits = [asyncio.ensure_future(each.wait()) for each in (task.ended, task.asking)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            task.asking.clear()
            for wait in waits:
                wait.cancel()
        if isinstance(task.outcome, MCPError):
            raise task.outcome
        if task.outcome is None:
            raise MCPError(INVALID_PARAMS, f"Task {task.id} has no result")
        result: Json = task.outcome.model_dump(by_alias=True, mode="json", exclude_none=True)
        return {**result, "_meta": {RELATED_TASK: {"taskId": task.id}, "kept": True}}

    async def _ask(self, ctx: Context, task: Task, question: str) -> None:
        params = types.ElicitRequestFormParams.model_validate(
            {
                "message": question,
                "requestedSchema": schema(["name"], name={"type": "string"}),
                "_meta": {RELATED_TASK: {"taskId": task.id}},
            }
        )
        answer = await ctx.session.send_request(
            types.ElicitRequest(params=params),
            types.ElicitResult,
            metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        )
        if not task.answer.done():
            task.answer.set_result(answer.model_dump(by_alias=True, mode="json", exclude_none=True))

    async def _cancel(self, ctx: Context, params: TaskParams) -> Json:
        task = self._find(params)
        if task.ended.is_set() or task.running is None:
            raise MCPError(INVALID_PARAMS, f"Task {task.id} has ended")
        task.running.cancel()
        task.end("cancelled")
        return task.wire()

    def _find(self, params: TaskParams) -> Task:
        task = self._tasks.get(params.task_id)
        if task is None:
            raise MCPError(INVALID_PARAMS, f"Task not found: {params.task_id}")
        return task


async def _unknown(ctx: Context, params: types.RequestParams) -> Json:
    raise MCPError(METHOD_NOT_FOUND, "Method not found")


async def serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await serve_loop(server, read, write, lifespan_state=None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--without", metavar="TOOL")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
    serve = serve_stdio if options.http is None else serving_http(options.http, json_response=False)
    anyio.run(serve, CoreTaskServer(Ledger(options.ledger), options.without).server)


if __name__ == "__main__":
    main()
