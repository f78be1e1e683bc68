"""The tasks of one principal: finding them, ending them, and telling nobody of others'."""

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from holdfast_server.mcp.payloads import iso
from holdfast_server.mcp.tasks.status import outcome_is_kept
from holdfast_store.model.errors import NotFound, WrongState
from holdfast_store.model.values import Call, Principal
from holdfast_tools.operations import Operations


def task_id_of(params: Mapping[str, Any] | None) -> str:
    """The task that a request names. Raises `MCPError` (-32602) where it names none."""
    task_id = (params or {}).get("taskId")
    if not isinstance(task_id, str) or not task_id:
        raise MCPError(INVALID_PARAMS, "params.taskId must be the id of a task")
    return task_id


class TaskAccess:
    """Looks tasks up for those whose they are."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def find(self, task_id: str, principal: Principal) -> Call:
        """The call behind a task. Raises `MCPError` (-32602) for another's exactly as for none."""
        try:
            return await self._operations.own_call(task_id, principal)
        except NotFound as error:
            raise MCPError(INVALID_PARAMS, f"Task not found: {task_id}") from error

    async def owns(self, task_id: str, principal: Principal) -> bool:
        """Whether there is such a task, and it is the principal's."""
        try:
            await self._operations.own_call(task_id, principal)
        except NotFound:
            return False
        return True

    async def find_kept(self, task_id: str, principal: Principal) -> Call:
        """As `find`; raises `MCPError` (-32602) also where the call has ended so long ago that its outcome is gone."""
        call = await self.find(task_id, principal)
        if call.ended and not outcome_is_kept(call):
            ended = f"it ended as {call.state.value} at {iso(call.ended_at)}"
            raise MCPError(INVALID_PARAMS, f"Task expired: {task_id}; {ended}, and its outcome is no longer kept")
        return call

    async def cancel(self, call: Call, principal: Principal) -> Call:
        """Withdraw an open call as far as that is honest, and return it as it then stands.

        What has ended and what is in doubt stay as they are.
        """
        try:
            return await self._operations.cancel(call, principal)
        except WrongState:
            return await self._operations.own_call(call.id, principal)
