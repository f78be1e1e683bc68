"""A reply as a `CallToolResult` on the wire, for clients that know nothing of tasks.

Every state becomes a plain result whose first words say what is going on and which tool to call next. Commands,
approval ids, tokens and paths never appear here: a model reads it.
"""

from holdfast_server.mcp import meta
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, OutcomeKind
from holdfast_tools.request import Reply


def call_meta(reply: Reply) -> Json:
    """The `_meta` entry that every answer about a call carries."""
    call = reply.call
    return {
        "id": call.id,
        "status": call.state.value,
        "attempts": call.fence,
        "replayed": reply.replayed,
        "joined": reply.joined,
        "rules": list(call.rules),
    }


def render(reply: Reply, *, has_output_schema: bool = False) -> Json:
    """The answer to `tools/call`: the outcome where the call has ended, else a handle in words.

    A handle is an error where the tool declares an output schema: a client would refuse it as a result.
    """
    result = _ended(reply.call) if reply.call.ended else text_result(standing(reply.call), is_error=has_output_schema)
    content, carried = result.get("content"), result.get("_meta")
    content = list(content) if isinstance(content, list) else []
    if reply.joined:
        content.append(_text(f"(An earlier same call answers for this one: task {reply.call.id}. Nothing ran twice.)"))
    result["content"] = content
    result["_meta"] = {**(carried if isinstance(carried, dict) else {}), meta.CALL: call_meta(reply)}
    return result


def refusal(message: str, code: str) -> Json:
    """The answer to a call that was never admitted."""
    result = text_result(message, is_error=True)
    refused = {"id": None, "status": "refused", "code": code, "attempts": 0, "replayed": False, "joined": False}
    result["_meta"] = {meta.CALL: {**refused, "rules": []}}
    return result


def standing(call: Call) -> str:
    """What is going on with an open call, in words for a model."""
    wait = f'call holdfast__wait_task with {{"task_id": "{call.id}"}}'
    match call.state:
        case State.WAITING_FOR_APPROVAL:
            why = f" {call.note}" if call.note else ""
            return (
                f"Waiting for approval: {call.tool} has not run yet and nothing failed.{why} That person is not you: "
                f"you cannot approve it. Do not repeat the call. Its task id is {call.id}: go on with other work, then "
                f"{wait}."
            )
        case State.IN_DOUBT:
            return (
                f"Outcome unknown: {call.tool} was sent and its answer was lost, so it may have had its effect. An "
                f"admin must look. Do not repeat the call. Its task id is {call.id}; later, {wait}."
            )
        case State.WAITING_FOR_INPUT:
            return f"Waiting for input: {call.tool} asked for more before it goes on. Its task id is {call.id}; {wait}."
        case _:
            asked = (
                " A cancel was asked for; what was already sent cannot be called back." if call.cancel_requested else ""
            )
            return (
                f"Still running: {call.tool} has not finished and nothing failed.{asked} Do not repeat the call. Its "
                f"task id is {call.id}; {wait} for the result."
            )


def text_result(text: str, *, is_error: bool = False) -> Json:
    """A result of one text block."""
    result: Json = {"content": [_text(text)]}
    if is_error:
        result["isError"] = True
    return result


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


_ENDINGS = {
    OutcomeKind.ERROR: "The call failed: {message}",
    OutcomeKind.UNREACHABLE: "The call failed and nothing was sent: {message}",
    OutcomeKind.DENIED: "Denied by policy; {ran}: {message}",
    OutcomeKind.REJECTED: "Rejected by an approver; nothing ran. Their reason: {message}",
    OutcomeKind.EXPIRED: "Expired; {ran}: {message}",
    OutcomeKind.CANCELLED: "Cancelled: {message}",
    OutcomeKind.RPC_ERROR: "The tool failed with error {code}: {message}",
}


def _ended(call: Call) -> Json:
    outcome = call.outcome
    if outcome is None or not outcome.payload:
        purged = f"The call has ended ({call.state.value}); its outcome is no longer kept. Do not repeat it for that."
        return text_result(purged, is_error=call.state is not State.DONE)
    if outcome.kind in (OutcomeKind.RESULT, OutcomeKind.TOOL_ERROR):
        return dict(outcome.payload)
    ran = "an earlier attempt was sent" if call.failures + call.losses else "nothing ran"
    sentence = _ENDINGS[outcome.kind].format(message=outcome.message, code=outcome.payload.get("code"), ran=ran)
    return text_result(sentence, is_error=True)
