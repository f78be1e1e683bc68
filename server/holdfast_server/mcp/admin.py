"""What an admin sees: what waits for people, what happened to every call, and the verbs to decide it.

These tools exist on the admin endpoint alone, for principals that hold an approving role. They are never listed,
and cannot be called, where an agent connects.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_server.mcp.caller import caller_of
from holdfast_server.mcp.decode import decode_call
from holdfast_server.mcp.endpoint import Context
from holdfast_server.mcp.payloads import approval_payload, call_payload, entry_payload
from holdfast_server.mcp.render import text_result
from holdfast_store.contract import CallFilter, Store
from holdfast_store.model.errors import AccessDenied, HoldfastError, InvalidArguments
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Approval, ApprovalStatus, Call, Json, Principal, VerdictKind
from holdfast_tools.operations import Operations
from holdfast_tools.request import RefusedArguments
from holdfast_tools.schema import ToolSchema

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 100_000

ADMIN_ROLE = "admin"

ADMIN_INSTRUCTIONS = (
    "Decide on risky tool calls of agents and look into what happened. list_approvals shows what waits; read the "
    "arguments before you approve. Calls in doubt were sent and their outcome is unknown: find out at the system "
    "they touch, then resolve_call."
)

_ID = {"type": "string", "minLength": 1}
_PAGE: Json = {
    "limit": {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
    "cursor": {"type": "string", "description": "From the page before."},
}


def _tool(name: str, description: str, properties: Json, required: Sequence[str] = (), *, reads: bool = False) -> Json:
    return {
        "name": name,
        "description": description,
        "inputSchema": {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": reads, "openWorldHint": False},
    }


DEFINITIONS: tuple[Json, ...] = (
    _tool(
        "list_approvals",
        "Approvals, newest first; by default those that are pending.",
        {
            "status": {"type": "string", "enum": [*(s.value for s in ApprovalStatus), "all"], "default": "pending"},
            **_PAGE,
        },
        reads=True,
    ),
    _tool(
        "get_approval",
        "One approval with its arguments and verdicts.",
        {"approval_id": _ID},
        ["approval_id"],
        reads=True,
    ),
    _tool(
        "approve",
        "Approve a parked call; it runs once the quorum is reached.",
        {"approval_id": _ID, "comment": {"type": "string"}},
        ["approval_id"],
    ),
    _tool(
        "reject",
        "Reject a parked call; the reason reaches the model that asked.",
        {"approval_id": _ID, "reason": {"type": "string", "minLength": 1, "maxLength": 2000}},
        ["approval_id", "reason"],
    ),
    _tool(
        "list_calls",
        "Calls, newest first.",
        {
            "status": {"type": "string", "enum": [state.value for state in State]},
            "tool": {"type": "string", "description": "The canonical name, server__tool."},
            **_PAGE,
        },
        reads=True,
    ),
    _tool("get_call", "One call with its timeline.", {"call_id": _ID}, ["call_id"], reads=True),
    _tool(
        "resume_call",
        "Run an ended call again, as a new call through policy and approval.",
        {"call_id": _ID},
        ["call_id"],
    ),
    _tool("cancel_call", "Withdraw a call as far as that is possible.", {"call_id": _ID}, ["call_id"]),
    _tool(
        "resolve_call",
        "Settle a call in doubt by what you found out: it was done, it failed, or it shall be tried again.",
        {
            "call_id": _ID,
            "outcome": {"type": "string", "enum": ["done", "failed", "retry"]},
            "result": {"type": "object", "description": "With done: the CallToolResult that the agent shall get."},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        ["call_id", "outcome", "reason"],
    ),
    _tool("engine_status", "How the engine, its downstreams and its store are.", {}, reads=True),
    _tool(
        "engine_reload",
        "Bring the config file as it is now into the running engine, and say what changed. A file with problems "
        "changes nothing.",
        {},
    ),
    _tool(
        "engine_stop",
        "Drain and stop the engine. What waits, waits on in the store.",
        {"drain_s": {"type": "number", "minimum": 0, "maximum": 600, "default": 10}},
    ),
)


class EngineControl:
    """What the admin tools may ask of the engine itself."""

    async def status(self) -> Json:
        """Everything `holdfast doctor` shows of a living engine."""
        raise NotImplementedError

    async def reload(self) -> Json:
        """Exchange the config for the file as it is now; what changed.

        Raises `ConfigError` with every problem of the file, and where it changes what a running engine cannot; then
        nothing has changed.
        """
        raise NotImplementedError

    def stop(self, drain_s: float) -> None:
        """Begin a graceful stop; the answer still goes out."""
        raise NotImplementedError


class AdminToolset:
    """The tools of `/admin/mcp`, of `holdfast admin` and of the command line's writes."""

    def __init__(self, store: Store, operations: Operations, control: EngineControl, roles: frozenset[str]) -> None:
        self._store = store
        self._operations = operations
        self._control = control
        self._roles = roles
        self._schemas = {d["name"]: ToolSchema.compile(d["inputSchema"], strict=True) for d in DEFINITIONS}
        self._tools: dict[str, Callable[[Principal, Json], Awaitable[Json]]] = {
            "list_approvals": self._list_approvals,
            "get_approval": self._get_approval,
            "approve": self._approve,
            "reject": self._reject,
            "list_calls": self._list_calls,
            "get_call": self._get_call,
            "resume_call": self._resume_call,
            "cancel_call": self._cancel_call,
            "resolve_call": self._resolve_call,
            "engine_status": self._engine_status,
            "engine_reload": self._engine_reload,
            "engine_stop": self._engine_stop,
        }

    def admit(self, roles: frozenset[str]) -> None:
        """Let in whoever holds one of `roles`, and nobody else."""
        self._roles = roles

    def admits(self, principal: Principal) -> bool:
        """Whether `principal` may use the admin endpoint: it holds an approving role, or is an admin."""
        return bool(principal.roles & self._roles)

    async def list_tools(self, ctx: Context) -> Sequence[Json]:
        self._require_access(caller_of(ctx))
        return DEFINITIONS

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        return next((d["inputSchema"] for d in DEFINITIONS if d["name"] == name), None)

    async def call_tool(self, ctx: Context) -> tuple[Json, Callable[[], None] | None]:
        person = caller_of(ctx)
        self._require_access(person)
        request = decode_call(ctx, person)
        tool = self._tools.get(request.tool)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f'There is no admin tool "{request.tool}".')
        try:
            problems = self._schemas[request.tool].problems(request.arguments)
            if problems:
                raise RefusedArguments(request.tool, problems)
            payload = await tool(person, request.arguments)
        except HoldfastError as error:
            result = text_result(str(error), is_error=True)
            result["structuredContent"] = {"error": {"code": error.code, "message": str(error)}}
            return result, None
        result = text_result(json.dumps(payload, ensure_ascii=False, indent=1))
        result["structuredContent"] = payload
        return result, None

    def _require_access(self, person: Principal) -> None:
        if not self.admits(person):
            raise MCPError(
                INVALID_PARAMS,
                f"{person.id} may not use the admin endpoint: that takes the role {' or '.join(sorted(self._roles))}",
                {"code": "access_denied"},
            )

    # --- approvals --------------------------------------------------------------------------------------------

    async def _list_approvals(self, person: Principal, arguments: Json) -> Json:
        wanted = arguments.get("status", ApprovalStatus.PENDING.value)
        status = None if wanted == "all" else ApprovalStatus(wanted)
        listed = self._store.list_approvals(
            status, _limit(arguments), arguments.get("cursor"), tenant=_tenant_of(person)
        )
        page = await _paged(listed)
        return _page("approvals", [approval_payload(approval) for approval in page.items], page.cursor)

    async def _get_approval(self, person: Principal, arguments: Json) -> Json:
        return {"approval": approval_payload(await self._approval(person, arguments))}

    async def _approval(self, person: Principal, arguments: Json) -> Approval:
        """Raises `NotFound` for an approval of another tenant exactly as for none."""
        approval_id = arguments["approval_id"]
        return await self._operations.approval(approval_id, _tenant_of(person))

    async def _approve(self, person: Principal, arguments: Json) -> Json:
        return await self._decide(person, arguments, VerdictKind.APPROVE, arguments.get("comment", ""))

    async def _reject(self, person: Principal, arguments: Json) -> Json:
        return await self._decide(person, arguments, VerdictKind.REJECT, _sanitised(arguments["reason"]))

    async def _decide(self, person: Principal, arguments: Json, kind: VerdictKind, comment: str) -> Json:
        approval = await self._approval(person, arguments)
        approval, call = await self._operations.decide(approval.id, person, kind, comment)
        return {"approval": approval_payload(approval), "call": call_payload(call)}

    # --- calls ------------------------------------------------------------------------------------------------

    async def _list_calls(self, person: Principal, arguments: Json) -> Json:
        status = arguments.get("status")
        states = frozenset({State(status)}) if status else None
        match = CallFilter(states=states, tool=arguments.get("tool"), tenant=_tenant_of(person))
        page = await _paged(self._store.list_calls(match, _limit(arguments), arguments.get("cursor")))
        return _page("calls", [call_payload(call) for call in page.items], page.cursor)

    async def _call(self, person: Principal, arguments: Json) -> Call:
        """Raises `NotFound` for a call of another tenant exactly as for none."""
        return await self._operations.call(arguments["call_id"], _tenant_of(person))

    async def _get_call(self, person: Principal, arguments: Json) -> Json:
        call = await self._call(person, arguments)
        timeline = await self._store.journal(call.id)
        return {"call": call_payload(call), "timeline": [entry_payload(entry) for entry in timeline]}

    async def _resume_call(self, person: Principal, arguments: Json) -> Json:
        call = await self._call(person, arguments)
        reply = await self._operations.resume(call, person, admin=True)
        return {"call": call_payload(reply.call)}

    async def _cancel_call(self, person: Principal, arguments: Json) -> Json:
        call = await self._call(person, arguments)
        return {"call": call_payload(await self._operations.cancel(call, person))}

    async def _resolve_call(self, person: Principal, arguments: Json) -> Json:
        call = await self._call(person, arguments)
        resolved = await self._operations.resolve(
            call, person, arguments["outcome"], arguments.get("result"), _sanitised(arguments["reason"])
        )
        return {"call": call_payload(resolved)}

    # --- the engine -------------------------------------------------------------------------------------------

    async def _engine_status(self, person: Principal, arguments: Json) -> Json:
        return await self._control.status()

    async def _engine_reload(self, person: Principal, arguments: Json) -> Json:
        _require_admin(person, "reload the config")
        return await self._control.reload()

    async def _engine_stop(self, person: Principal, arguments: Json) -> Json:
        _require_admin(person, "stop the engine")
        drain_s = float(arguments.get("drain_s", 10))
        self._control.stop(drain_s)
        return {"stopping": True, "drain_s": drain_s}


def _require_admin(person: Principal, wish: str) -> None:
    if ADMIN_ROLE not in person.roles:
        raise AccessDenied(f"{person.id} may not {wish}: that takes the role {ADMIN_ROLE}.")


def _tenant_of(person: Principal) -> str | None:
    """Whose calls `person` sees: those of its own tenant; an admin's are all."""
    return None if ADMIN_ROLE in person.roles else person.tenant


def _limit(arguments: Json) -> int:
    return int(arguments.get("limit", DEFAULT_LIMIT))


async def _paged(read: Awaitable[Any]) -> Any:
    try:
        return await read
    except ValueError as error:
        raise InvalidArguments(f"/cursor: {error}; leave it out to begin at the newest") from error


def _page(name: str, items: list[Json], cursor: str | None) -> Json:
    return {name: items} if cursor is None else {name: items, "cursor": cursor}


def _sanitised(reason: str) -> str:
    """A person's reason as it may reach a model: one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in reason).split())
