"""What a call's end amounts to, and the sentences for it. Pure."""

from collections.abc import Mapping

from holdfast_store.model.values import Call, Outcome, OutcomeKind
from holdfast_tools.catalog import Tool
from holdfast_tools.downstream.attempt import Answered
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.status import with_stderr
from holdfast_tools.settings import READ_TIMEOUT_S, WRITE_TIMEOUT_S


def outcome_of(answer: Answered) -> Outcome:
    """The outcome that a downstream's answer amounts to."""
    if answer.error is not None:
        return Outcome(OutcomeKind.RPC_ERROR, answer.error)
    result = answer.result or {}
    kind = result.get("resultType", "complete")
    if kind != "complete":
        return failure(f"the downstream answered with {kind!r}, which this version does not pass on")
    return Outcome(OutcomeKind.TOOL_ERROR if result.get("isError") else OutcomeKind.RESULT, result)


def failure(message: str) -> Outcome:
    """The end of a call that was sent and came to nothing."""
    return Outcome(OutcomeKind.ERROR, {"message": message})


def cancelled(message: str) -> Outcome:
    """The end of a call that was withdrawn."""
    return Outcome(OutcomeKind.CANCELLED, {"message": message})


def detached() -> Outcome:
    """The end of a call that was withdrawn, unsent, because its client went away."""
    return Outcome(OutcomeKind.CANCELLED, {"message": "cancelled by its client's disconnect", "detached": True})


def own_downstream(call: Call, downstreams: Mapping[str, Downstream]) -> Downstream | None:
    """The downstream that `call` was made for, and that alone may run it; None where the config has it no more."""
    downstream = downstreams.get(call.downstream)
    return downstream if downstream is not None and downstream.spec.identity == call.identity else None


def how_changed(call: Call, downstreams: Mapping[str, Downstream]) -> str:
    """What became of the downstream of a call that is not there any more as it was."""
    downstream = downstreams.get(call.downstream)
    now = downstream.spec.identity if downstream is not None else "not configured"
    return f"the downstream {call.downstream!r} changed: it was {call.identity}, it is {now}"


def was_detached(call: Call) -> bool:
    """Whether the call ended as `detached` says: whoever joined it must run its own."""
    return call.outcome is not None and call.outcome.payload.get("detached") is True


def unrunnable(call: Call, message: str) -> Outcome:
    """The end of a call that cannot be sent (again)."""
    asked = call.round is not None and call.round.number > 0
    sent_before = asked or call.remote_task is not None or call.failures + call.losses > 0
    return Outcome(OutcomeKind.ERROR if sent_before else OutcomeKind.UNREACHABLE, {"message": message})


def unreachable(downstream: Downstream) -> Outcome:
    """The outcome of a call that could not be sent: the downstream, why, and what it said last on stderr."""
    status = downstream.status
    message = f"the downstream {downstream.spec.name!r} cannot be reached ({status.reason or status.state})"
    return Outcome(OutcomeKind.UNREACHABLE, {"message": with_stderr(message, status.stderr_tail)})


def outlasts_absence(call: Call) -> bool:
    """Whether the call waits for its downstream to come back: approved, or claimed before. Others fail soon."""
    return call.execute_by is not None or call.fence > 0


def timeout_s(tool: Tool) -> float:
    """How long one attempt may take before its answer counts as lost."""
    default = READ_TIMEOUT_S if tool.annotations.read_only else WRITE_TIMEOUT_S
    return tool.settings.timeout_s if tool.settings.timeout_s is not None else default
