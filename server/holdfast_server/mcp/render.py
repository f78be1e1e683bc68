"""A reply as a `CallToolResult` on the wire, for clients that know nothing of tasks.

Every state becomes a plain result whose first words say what is going on and which tool to call next. Commands,
approval ids, tokens and paths never appear here: a model reads it.
"""

from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, URL_ELICITATION_REQUIRED

from holdfast_server.mcp import meta
from holdfast_server.mcp.payloads import iso
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, OutcomeKind
from holdfast_tools.request import Reply

_FOR_CLIENTS = frozenset(
    {INVALID_PARAMS, HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, URL_ELICITATION_REQUIRED}
)
"""Errors that a client, not a model, can do something about."""


def store_in_trouble(error: StoreError) -> str:
    """What a model reads of a `StoreError`, whose own sentence names paths and commands."""
    return (
        f"Nothing ran for this request: Holdfast cannot use its store: {error.cause}. Somebody who runs it must mend "
        "that; its log and its doctor say how. The same request may be sent again later."
    )


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


def with_record(result: Json, reply: Reply) -> Json:
    """`result` with the entry in its `_meta`."""
    carried = result.get("_meta")
    return {**result, "_meta": {**(carried if isinstance(carried, dict) else {}), meta.CALL: call_meta(reply)}}


def render(reply: Reply, *, has_output_schema: bool = False) -> Json:
    """The answer to `tools/call`: the outcome where the call has ended, else a handle in words.

    A handle is an error where the tool declares an output schema: a client would refuse it as a result.
    """
    result = _ended(reply.call) if reply.call.ended else text_result(standing(reply.call), is_error=has_output_schema)
    content = result.get("content")
    content = list(content) if isinstance(content, list) else []
    if reply.joined:
        content.append(_text(f"(An earlier same call answers for this one: task {reply.call.id}. Nothing ran twice.)"))
    result["content"] = content
    return with_record(result, reply)


def protocol_error(call: Call) -> MCPError | None:
    """The downstream's error where it speaks to the client rather than to the model, so that it stays an error."""
    outcome = call.outcome
    if outcome is None or outcome.kind is not OutcomeKind.RPC_ERROR or outcome.payload.get("code") not in _FOR_CLIENTS:
        return None
    return MCPError(outcome.payload["code"], outcome.message, outcome.payload.get("data"))


def refusal(message: str, code: str, retry_after_s: int | None = None) -> Json:
    """The answer to a call that was never admitted; with `retry_after_s` it may be made again after so long."""
    result = text_result(message, is_error=True)
    refused = {"id": None, "status": "refused", "code": code, "attempts": 0, "replayed": False, "joined": False}
    if retry_after_s is not None:
        refused["retry_after_s"] = retry_after_s
    result["_meta"] = {meta.CALL: {**refused, "rules": []}}
    return result


def standing(call: Call) -> str:
    """What is going on with an open call and since when, in words for a model."""
    since = iso(call.updated_at)
    wait = f'call holdfast__wait_task with {{"task_id": "{call.id}"}}'
    match call.state:
        case State.WAITING_FOR_APPROVAL:
            why = f" {call.note}" if call.note else ""
            return (
                f"Waiting for approval: {call.tool} has not run yet and nothing failed; it has waited since {since}."
                f"{why} That person is not you: you cannot approve it. Do not repeat the call. Its task id is "
                f"{call.id}: go on with other work, then {wait}."
            )
        case State.IN_DOUBT:
            return (
                f"Outcome unknown: {call.tool} was sent and its answer was lost at {since}, so it may have had its "
                f"effect. An admin must look. Do not repeat the call. Its task id is {call.id}; later, {wait}."
            )
        case State.WAITING_FOR_INPUT:
            return (
                f"Waiting for input: {call.tool} asked for more at {since} before it goes on. Its task id is "
                f"{call.id}; {wait}."
            )
        case _:
            waits = "has run" if call.state is State.RUNNING else "has waited for its turn"
            asked = (
                " A cancel was asked for; what was already sent cannot be called back." if call.cancel_requested else ""
            )
            return (
                f"Still running: {call.tool} has not finished and nothing failed; it {waits} since {since}.{asked} Do "
                f"not repeat the call. Its task id is {call.id}; {wait} for the result."
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
    if call.round is not None and call.round.number > 0:
        ran = "it had been sent"
    sentence = _ENDINGS[outcome.kind].format(message=outcome.message, code=outcome.payload.get("code"), ran=ran)
    return text_result(sentence, is_error=True)
