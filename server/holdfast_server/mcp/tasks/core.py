"""The dialect of 2025-11-25: core tasks, which the client asks for with `params.task`."""

from typing import Any, Literal

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, SERVER_INFO_META_KEY

from holdfast_server.mcp.caller import caller_of, is_listening
from holdfast_server.mcp.client_profile import profile_of
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.relay_stream import caller_stream
from holdfast_server.mcp.results import Results
from holdfast_server.mcp.rounds import asker
from holdfast_server.mcp.tasks.access import TaskAccess, task_id_of
from holdfast_server.mcp.tasks.status import common_fields, core_status, lifetime_ms, outcome_is_kept, poll_ms
from holdfast_server.mcp.tasks.waiting import told_meanwhile
from holdfast_store.contract import CallFilter, Store
from holdfast_store.model.values import Call, Json, OutcomeKind
from holdfast_tools.downstream.interactive import RELATED_TASK
from holdfast_tools.downstream.owner import CORE_TASKS_VERSION
from holdfast_tools.gateway import Gateway
from holdfast_tools.request import Reply
from holdfast_tools.rounds import Ask
from holdfast_tools.settings import TaskUse

CAPABILITY: Json = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}

LISTED = 50

WAIT_S = 600.0
"""How long `tasks/result` waits before it looks at the call again; it goes on until the call has ended."""

_SUPPORT: dict[TaskUse, Literal["optional", "required"]] = {
    "auto": "optional",
    "always": "optional",
    "required": "required",
}


def speaks_core_tasks(ctx: Context) -> bool:
    """Whether the connection speaks the version of core tasks."""
    return bool(ctx.protocol_version == CORE_TASKS_VERSION)


def advertised(result: Json) -> Json:
    """An `initialize` result that tells of tasks, where its version has them."""
    if result.get("protocolVersion") != CORE_TASKS_VERSION:
        return result
    return {**result, "capabilities": {**result.get("capabilities", {}), "tasks": CAPABILITY}}


def with_task_support(definition: Json, use: TaskUse) -> Json:
    """A tool as listed to such a client: whether a call of it may, or must, be made as a task."""
    others = {name: value for name, value in (definition.get("execution") or {}).items() if name != "taskSupport"}
    support = {"taskSupport": _SUPPORT[use]} if use in _SUPPORT else {}
    bare = {name: value for name, value in definition.items() if name != "execution"}
    return {**bare, "execution": {**others, **support}} if others or support else bare


def asks_for_task(ctx: Context, tool: str, use: TaskUse) -> bool:
    """Whether this `tools/call` is to be a task.

    Raises `MCPError`: -32601 where the tool does not do what is asked (specification 2025-11-25, tool-level
    negotiation), -32602 where `task` is not of the right shape.
    """
    task: Any = (ctx.params or {}).get("task")
    if task is None:
        if use == "required":
            raise MCPError(METHOD_NOT_FOUND, f"{tool} can only be called as a task: send params.task")
        return False
    if not isinstance(task, dict):
        raise MCPError(INVALID_PARAMS, "params.task must be an object")
    if use == "never":
        raise MCPError(METHOD_NOT_FOUND, f"{tool} cannot be called as a task: leave params.task out")
    return True


def _asker(ctx: Context, task_id: str) -> Ask | None:
    """How to ask the client of `ctx`; what it is asked names the task."""
    ask = asker(ctx, profile_of(ctx))
    if ask is None:
        return None

    async def ask_for_task(requests: Json) -> Json:
        return await ask({key: _related(request, task_id) for key, request in requests.items()})

    return ask_for_task


def _related(request: Json, task_id: str) -> Json:
    params = request.get("params") or {}
    carried = {**(params.get("_meta") or {}), RELATED_TASK: {"taskId": task_id}}
    return {**request, "params": {**params, "_meta": carried}}


class CoreTasks:
    """Tasks as a client of 2025-11-25 sees them. `kept_s`: how long the outcome of an ended call is kept."""

    def __init__(self, store: Store, gateway: Gateway, access: TaskAccess, results: Results, kept_s: float) -> None:
        self._store = store
        self._gateway = gateway
        self._access = access
        self._results = results
        self.kept_s = kept_s

    def created(self, call: Call) -> Json:
        """The answer to a `tools/call` that asked for a task."""
        return {"task": self._task(call)}

    async def get(self, ctx: Context) -> Json:
        """`tasks/get`."""
        return self._task(await self._access.find_kept(task_id_of(ctx.params), caller_of(ctx)))

    async def result(self, ctx: Context) -> Json:
        """`tasks/result`: waits until the call has ended; then its result, or its JSON-RPC error raised.

        What the call's downstream asks meanwhile is put to the client that waits here.
        """
        task_id = task_id_of(ctx.params)
        call = await self._access.find_kept(task_id, caller_of(ctx))
        if not call.ended:
            call = await self._ended(ctx, call)
        if await is_listening(ctx):
            self._gateway.delivered(Reply(call))
        outcome = call.outcome
        if outcome is not None and outcome.kind is OutcomeKind.RPC_ERROR:
            error = outcome.payload
            raise MCPError(int(error["code"]), str(error["message"]), error.get("data"))
        result = self._results.render(Reply(call), protocol_version=CORE_TASKS_VERSION, promised=True)
        result.pop("resultType", None)
        result["_meta"].pop(SERVER_INFO_META_KEY, None)
        result["_meta"][RELATED_TASK] = {"taskId": call.id}
        return result

    async def _ended(self, ctx: Context, call: Call) -> Call:
        """The call once it has ended; meanwhile its client is told how it stands, and asked what it is asked."""

        async def look() -> Call:
            return await self._access.find_kept(call.id, caller_of(ctx))

        async with caller_stream(ctx, profile_of(ctx)) as stream, told_meanwhile(look, stream):
            while True:
                await self._gateway.wait_until_ended(call.id, WAIT_S, through_doubt=True, ask=_asker(ctx, call.id))
                now = await look()
                if now.ended:
                    return now

    async def list(self, ctx: Context) -> Json:
        """`tasks/list`: the caller's own, newest first; without those whose outcome is no longer kept."""
        cursor = (ctx.params or {}).get("cursor")
        caller = caller_of(ctx)
        if cursor is not None and not isinstance(cursor, str):
            raise MCPError(INVALID_PARAMS, "params.cursor must be one that tasks/list gave")
        try:
            page = await self._store.list_calls(
                CallFilter(principal=caller.id, tenant=caller.tenant), LISTED, cursor=cursor
            )
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, "params.cursor must be one that tasks/list gave") from error
        kept = [call for call in page.items if not call.ended or outcome_is_kept(call)]
        listed: Json = {"tasks": [self._task(call) for call in kept]}
        if page.cursor is not None:
            listed["nextCursor"] = page.cursor
        return listed

    async def cancel(self, ctx: Context) -> Json:
        """`tasks/cancel`: the task as it then stands. Raises `MCPError` (-32602) for one that has ended."""
        call = await self._access.find(task_id_of(ctx.params), caller_of(ctx))
        if call.ended:
            raise MCPError(INVALID_PARAMS, f"Cannot cancel task: it has already ended as {core_status(call).value}")
        return self._task(await self._access.cancel(call, caller_of(ctx)))

    def _task(self, call: Call) -> Json:
        lifetime = {"ttl": lifetime_ms(call, self.kept_s), "pollInterval": poll_ms(call)}
        return common_fields(call, core_status(call)) | lifetime
