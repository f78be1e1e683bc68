"""Tasks of the extension of 2026-07-28 (SEP-2663), as their client."""

from dataclasses import replace

from holdfast_store.model.values import Json, RemoteTask
from holdfast_tools.downstream.attempt import Answered, Lost
from holdfast_tools.remote.asking import Ask, Cancelled, Found, Keep, interval_s
from holdfast_tools.rounds import INPUT_REQUIRED


class ExtensionTask:
    """A task of the downstream `name`. `answers` are handed over once each, and `keep` remembers which were."""

    def __init__(self, name: str, task: RemoteTask, ask: Ask, answers: Json, keep: Keep) -> None:
        self._name = name
        self._task = task
        self._ask = ask
        self._answers = answers
        self._keep = keep

    @property
    def poll_s(self) -> float | None:
        return self._task.poll_s

    async def step(self) -> Found | None:
        new = {key: answer for key, answer in self._answers.items() if key not in self._task.answered}
        if new:
            await self._ask("tasks/update", {"inputResponses": new})
            self._task = replace(self._task, answered=(*self._task.answered, *new))
            await self._keep(self._task)
        return self._found(await self._ask("tasks/get", {}))

    async def cancel(self) -> None:
        await self._ask("tasks/cancel", {})

    async def leave(self) -> None:
        """Nothing is waited for between two steps."""

    def _found(self, task: Json) -> Found | None:
        self._task = replace(self._task, poll_s=interval_s(task, "pollIntervalMs") or self._task.poll_s)
        match task:
            case {"status": "completed", "result": dict(result)}:
                return Answered(result=result)
            case {"status": "failed", "error": {"code": int(), "message": str()} as error}:
                return Answered(error=error)
            case {"status": "cancelled"}:
                return Cancelled(str(task.get("statusMessage") or f"{self._name} cancelled its task"))
            case {"status": "input_required", "inputRequests": dict(requests)}:
                asked = {key: request for key, request in requests.items() if key not in self._task.answered}
                return Answered(result={"resultType": INPUT_REQUIRED, "inputRequests": asked}) if asked else None
            case {"status": "working" | "input_required"}:
                return None
        return Lost(f"{self._name} says of its task what makes no sense: its status is {task.get('status')!r}")
