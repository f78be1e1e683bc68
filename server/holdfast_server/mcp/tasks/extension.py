"""The dialect of 2026-07-28: the extension `io.modelcontextprotocol/tasks` (SEP-2663).

A client declares it with every request that may be answered with a task, and with every request about one.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from mcp.shared.exceptions import MCPError
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    HEADER_MISMATCH,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    SERVER_INFO_META_KEY,
)

from holdfast_server.mcp.caller import caller_of
from holdfast_server.mcp.capabilities import TASKS_EXTENSION
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.results import Results
from holdfast_server.mcp.rounds import is_responses, not_responses
from holdfast_server.mcp.tasks.access import TaskAccess, task_id_of
from holdfast_server.mcp.tasks.rounds import answers_to, open_requests
from holdfast_server.mcp.tasks.status import TaskStatus, common_fields, extension_status, lifetime_ms, poll_ms
from holdfast_store.model.values import Call, Json, Principal
from holdfast_tools.request import Reply

EXTENSION_SINCE = "2026-07-28"

_REQUIRED: Json = {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}


class InputRounds(Protocol):
    """Where the answers to a call's questions go."""

    async def answer_input(self, call_id: str, principal: Principal, responses: Json, *, number: int) -> Call:
        """Take answers, by the downstream's own keys, to round `number`; what answers no open question is ignored."""
        ...


def declares_tasks(params: Mapping[str, Any] | None) -> bool:
    """Whether the request's own `_meta` declares the extension."""
    place: Any = params
    for name in ("_meta", CLIENT_CAPABILITIES_META_KEY, "extensions"):
        place = place.get(name) if isinstance(place, Mapping) else None
    return isinstance(place, Mapping) and TASKS_EXTENSION in place


def missing_extension(what: str) -> MCPError:
    """The refusal of a request that needs the extension and does not declare it."""
    sentence = f"{what} needs the client capability {TASKS_EXTENSION}"
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, sentence, _REQUIRED)


class TasksExtension:
    """Tasks as a client of 2026-07-28 sees them. `kept_s`: how long the outcome of an ended call is kept."""

    def __init__(self, access: TaskAccess, inputs: InputRounds, results: Results, kept_s: float) -> None:
        self._access = access
        self._results = results
        self._inputs = inputs
        self.kept_s = kept_s

    def created(self, call: Call) -> Json:
        """The answer to a `tools/call` that has become a task."""
        return {"resultType": "task", **self._fields(call)}

    async def get(self, ctx: Context) -> tuple[Json, Call]:
        """`tasks/get`: the whole task, and the call that it shows."""
        call = await self._access.find_kept(self._named(ctx), caller_of(ctx))
        return self.detailed(call), call

    async def update(self, ctx: Context) -> Json:
        """`tasks/update`: an empty acknowledgement."""
        task_id = self._named(ctx)
        responses = (ctx.params or {}).get("inputResponses")
        if not isinstance(responses, dict) or not is_responses(responses):
            raise not_responses()
        call = await self._access.find(task_id, caller_of(ctx))
        answers = answers_to(call, responses)
        if answers and call.round is not None:
            await self._inputs.answer_input(call.id, caller_of(ctx), answers, number=call.round.number)
        return {}

    async def cancel(self, ctx: Context) -> Json:
        """`tasks/cancel`: an empty acknowledgement, whatever the task's state."""
        call = await self._access.find(self._named(ctx), caller_of(ctx))
        await self._access.cancel(call, caller_of(ctx))
        return {}

    def detailed(self, call: Call) -> Json:
        """The whole task, as `tasks/get` answers it and `notifications/tasks` brings it."""
        status = extension_status(call)
        fields = self._fields(call)
        match status:
            case TaskStatus.INPUT_REQUIRED:
                fields["inputRequests"] = open_requests(call)
            case TaskStatus.COMPLETED:
                fields["result"] = self._result(call)
            case TaskStatus.FAILED:
                fields["error"] = dict(call.outcome.payload) if call.outcome is not None else {}
            case TaskStatus.WORKING | TaskStatus.CANCELLED:
                pass
        return fields

    def _result(self, call: Call) -> Json:
        """The outcome as a whole result of its own; who answered it is Holdfast: a downstream's stamp is taken off."""
        result = self._results.render(Reply(call), protocol_version=EXTENSION_SINCE, promised=True)
        result.setdefault("resultType", "complete")
        result["_meta"].pop(SERVER_INFO_META_KEY, None)
        return result

    def _fields(self, call: Call) -> Json:
        lifetime = {"ttlMs": lifetime_ms(call, self.kept_s), "pollIntervalMs": poll_ms(call)}
        return common_fields(call, extension_status(call)) | lifetime

    def _named(self, ctx: Context) -> str:
        """The task that the request is about; the checks stand in the order of the specification."""
        if not declares_tasks(ctx.params):
            raise missing_extension(ctx.method)
        task_id = task_id_of(ctx.params)
        if ctx.request is not None and ctx.request.headers.get("mcp-name") != task_id:
            raise MCPError(HEADER_MISMATCH, "The header Mcp-Name must name the task in params.taskId")
        return task_id
