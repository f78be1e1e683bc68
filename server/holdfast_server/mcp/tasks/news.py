"""Tells who listens of every change of a task (`notifications/tasks`)."""

from typing import Protocol

from holdfast_server.mcp.tasks.extension import TasksExtension
from holdfast_store.model.values import Call, Json, Principal


class TaskStreams(Protocol):
    """The streams of `subscriptions/listen`."""

    def watches_task(self, task_id: str) -> bool:
        """Whether any stream asks for this task."""
        ...

    def publish_task(self, task_id: str, principal: Principal, payload: Json) -> None:
        """Send the whole task to those streams of `principal` that ask for it."""
        ...


class TaskNews:
    """Called with every call that moved; brings the same task that `tasks/get` would answer."""

    def __init__(self, extension: TasksExtension, streams: TaskStreams) -> None:
        self._extension = extension
        self._streams = streams

    def __call__(self, call: Call) -> None:
        if self._streams.watches_task(call.id):
            owner = Principal(call.principal, tenant=call.tenant)
            self._streams.publish_task(call.id, owner, self._extension.detailed(call))
