"""The plain tools: every client can follow, cancel and resume a call by its id, whatever it knows of tasks."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_server.mcp.render import standing, text_result
from holdfast_server.mcp.results import Results
from holdfast_server.mcp.tasks.waiting import told_meanwhile
from holdfast_store.contract import CallFilter, Store
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, Principal
from holdfast_tools.gateway import Gateway
from holdfast_tools.operations import Operations
from holdfast_tools.request import CallRequest, RefusedArguments, Reply
from holdfast_tools.schema import ToolSchema

PREFIX = "holdfast__"

LONGEST_WAIT_S = 600.0
LISTED = 50
LISTED_RESULT_BYTES = 8 * 1024
"""The most that one result takes in a list; `get_task` has more of it."""

OnItsWay = Callable[[], None] | None

_TASK_ID = {"type": "string", "minLength": 1, "description": "The task id that an earlier answer named."}


def _definition(name: str, description: str, properties: Json, required: list[str], *, read_only: bool) -> Json:
    return {
        "name": PREFIX + name,
        "description": description,
        "inputSchema": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": read_only, "destructiveHint": False, "openWorldHint": False},
    }


DEFINITIONS: tuple[Json, ...] = (
    _definition(
        "get_task",
        "How a call stands, at once: its result where it has finished, else what it waits for.",
        {"task_id": _TASK_ID},
        ["task_id"],
        read_only=True,
    ),
    _definition(
        "wait_task",
        "Wait for a call that has not finished, and get its result. Answers what it waits for when the time is over.",
        {
            "task_id": _TASK_ID,
            "timeout_s": {
                "type": "number",
                "minimum": 0,
                "maximum": LONGEST_WAIT_S,
                "default": 4,
                "description": "How many seconds to wait; stay below your own client's timeout.",
            },
        },
        ["task_id"],
        read_only=True,
    ),
    _definition(
        "list_tasks",
        "Your calls, newest first, finished ones with their results. After a restart, pick up your work here.",
        {
            "run": {"type": "string", "description": "Only the calls of this run (a trace id)."},
            "status": {
                "type": "string",
                "enum": [state.value for state in State],
                "description": "Only calls in this state.",
            },
        },
        [],
        read_only=True,
    ),
    _definition(
        "cancel_task",
        "Withdraw a call. What was already sent cannot be called back: its outcome settles as what it was.",
        {"task_id": _TASK_ID},
        ["task_id"],
        read_only=False,
    ),
    _definition(
        "resume_task",
        "Run a call that failed or was cancelled again, as a new call with the same arguments.",
        {"task_id": _TASK_ID},
        ["task_id"],
        read_only=False,
    ),
)


@dataclass(frozen=True, slots=True)
class _Arguments:
    request: CallRequest

    @property
    def task_id(self) -> str:
        return str(self.request.arguments["task_id"])

    def get(self, name: str) -> Any:
        return self.request.arguments.get(name)


class Handles:
    """The five plain tools. A call of another principal is indistinguishable from none."""

    def __init__(self, store: Store, gateway: Gateway, operations: Operations, results: Results) -> None:
        self._store = store
        self._results = results
        self._gateway = gateway
        self._operations = operations
        self._schemas = {d["name"]: ToolSchema.compile(d["inputSchema"], strict=True) for d in DEFINITIONS}
        self._tools: dict[str, Callable[[_Arguments], Awaitable[tuple[Json, OnItsWay]]]] = {
            "get_task": self._get,
            "wait_task": self._wait,
            "list_tasks": self._list,
            "cancel_task": self._cancel,
            "resume_task": self._resume,
        }

    def definitions(self) -> list[Json]:
        """The tools as they go to the wire."""
        return [dict(definition) for definition in DEFINITIONS]

    def owns(self, name: str) -> bool:
        """Whether `name` is one of these tools."""
        return name.startswith(PREFIX) and name.removeprefix(PREFIX) in self._tools

    async def find(self, task_id: str, principal: Principal) -> Call:
        """The call of this id. Raises `NotFound` for another principal's exactly as for none."""
        return await self._operations.own_call(task_id, principal)

    async def call(self, request: CallRequest) -> tuple[Json, OnItsWay]:
        """Raises `InvalidArguments`, `NotFound`, `WrongState`."""
        problems = self._schemas[request.tool].problems(request.arguments)
        if problems:
            raise RefusedArguments(request.tool, problems)
        return await self._tools[request.tool.removeprefix(PREFIX)](_Arguments(request))

    async def _get(self, arguments: _Arguments) -> tuple[Json, OnItsWay]:
        return self._answer(arguments, await self._own(arguments))

    async def _wait(self, arguments: _Arguments) -> tuple[Json, OnItsWay]:
        call = await self._own(arguments)
        if not call.ended:
            timeout_s = float(arguments.get("timeout_s") if arguments.get("timeout_s") is not None else 4)
            request = arguments.request
            async with told_meanwhile(lambda: self._own(arguments), request.listener, timeout_s):
                call = await self._gateway.wait_until_ended(call.id, timeout_s, ask=request.ask) or call
        return self._answer(arguments, call)

    async def _list(self, arguments: _Arguments) -> tuple[Json, OnItsWay]:
        principal = arguments.request.principal
        status = arguments.get("status")
        match = CallFilter(
            states=frozenset({State(status)}) if status else None,
            run=arguments.get("run"),
            principal=principal.id,
            tenant=principal.tenant,
        )
        page = await self._store.list_calls(match, LISTED)
        lines = [f"{call.id} {call.tool}: {_line(call)}" for call in page.items] or ["There are no such calls."]
        if page.cursor is not None:
            lines.append(f"(the newest {LISTED}; name a run or a status to see others)")
        result = text_result("\n".join(lines))
        result["structuredContent"] = {"tasks": [self._entry(arguments, call) for call in page.items]}
        return result, lambda: self._delivered_all(page.items)

    async def _cancel(self, arguments: _Arguments) -> tuple[Json, OnItsWay]:
        call = await self._own(arguments)
        return self._answer(arguments, await self._operations.cancel(call, arguments.request.principal))

    async def _resume(self, arguments: _Arguments) -> tuple[Json, OnItsWay]:
        call = await self._own(arguments)
        reply = await self._operations.resume(call, arguments.request.principal, admin=False)
        return self._rendered(arguments, reply), lambda: self._gateway.delivered(reply)

    async def _own(self, arguments: _Arguments) -> Call:
        return await self.find(arguments.task_id, arguments.request.principal)

    def _delivered_all(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._gateway.delivered(Reply(call))

    def _answer(self, arguments: _Arguments, call: Call) -> tuple[Json, OnItsWay]:
        reply = Reply(call)
        return self._rendered(arguments, reply), lambda: self._gateway.delivered(reply)

    def _rendered(self, arguments: _Arguments, reply: Reply, at_most: int | None = None) -> Json:
        version = arguments.request.client.protocol_version
        return self._results.render(reply, protocol_version=version, at_most=at_most)

    def _entry(self, arguments: _Arguments, call: Call) -> Json:
        entry: Json = {"task_id": call.id, "tool": call.tool, "status": call.state.value, "run": call.run}
        if call.ended:
            entry["result"] = self._rendered(arguments, Reply(call), LISTED_RESULT_BYTES)
        return entry


def _line(call: Call) -> str:
    if not call.ended:
        return standing(call).split(":", 1)[0].lower()
    return call.state.value
