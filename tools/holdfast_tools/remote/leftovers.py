"""Tasks that downstreams made of calls which have ended without them: nobody will ask what became of these."""

from collections.abc import Mapping

from anyio.abc import TaskGroup

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, RemoteTask
from holdfast_tools.admission import holder_of
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.outcomes import own_downstream
from holdfast_tools.remote.watch import cancel_remote
from holdfast_tools.under_way import Slots


class Leftovers:
    """Has them cancelled, in the background."""

    def __init__(self, downstreams: Mapping[str, Downstream], slots: Slots) -> None:
        self._downstreams = downstreams
        self._slots = slots
        self._tasks: TaskGroup | None = None

    def attach(self, tasks: TaskGroup) -> None:
        """Run everything in `tasks`."""
        self._tasks = tasks

    def moved(self, call: Call) -> None:
        """`call` moved. Where that ended it, and not what its watch found, its task is left over."""
        given_up = call.state in (State.FAILED, State.CANCELLED)
        if given_up and call.remote_task is not None and call.id not in self._slots:
            self.cancel(call, call.remote_task)

    def cancel(self, call: Call, task: RemoteTask) -> None:
        """Have `task` cancelled, which the downstream made of `call`, as far as it can be reached."""
        downstream = own_downstream(call, self._downstreams)
        if downstream is not None and self._tasks is not None:
            client = ClientProfile.from_json(call.client)
            self._tasks.start_soon(cancel_remote, downstream, task, client, holder_of(call))

    def forget(self, call: Call, task: RemoteTask) -> None:
        """Leave `task` to itself: whether it has its effect, a person must find out."""
        downstream = own_downstream(call, self._downstreams)
        if downstream is not None:
            downstream.forget_task(task.id)
