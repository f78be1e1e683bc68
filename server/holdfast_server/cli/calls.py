"""`holdfast calls`: what was asked for, what became of it, and what people may do about it."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast_server.cli.arguments import ConfigArgument, CursorOption, JsonOption, LimitOption
from holdfast_server.cli.failures import USAGE, Failure, note, reporting
from holdfast_server.cli.output import Column, age, fields, moment_words, one_line, print_json, table
from holdfast_server.cli.timeline import timeline
from holdfast_store.model.lifecycle import State

app = typer.Typer(name="calls", help="What was asked for, and what became of it.", no_args_is_help=True)

CallArgument = Annotated[str, typer.Argument(metavar="CALL", help="The call's id.")]

LONGEST_RESULT = 2_000


class Resolution(StrEnum):
    """What a person found out about a call in doubt."""

    DONE = "done"
    FAILED = "failed"
    RETRY = "retry"


@app.command("list")
@reporting
def list_calls(
    config: ConfigArgument,
    status: Annotated[State | None, typer.Option("--status", help="Only calls in this state.")] = None,
    tool: Annotated[str | None, typer.Option("--tool", help="Only calls of this tool, server__tool.")] = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    as_json: JsonOption = False,
) -> None:
    """List calls, newest first."""
    from holdfast_server.cli import stored
    from holdfast_server.config import store_of

    states = None if status is None else frozenset({status})
    payload = stored.calls(store_of(config), states, tool, limit, cursor)
    if as_json:
        print_json(payload)
        return
    found = payload["calls"]
    if not found:
        print("no such calls" if status or tool else "no calls")
        return
    columns = (Column("call", kept=True), Column("status", kept=True), Column("tool"), Column("age", kept=True))
    print(table(columns, [(c["id"], c["status"], c["tool"], age(c["created_at"])) for c in found]))
    if "cursor" in payload:
        note(f"there are more: --cursor {payload['cursor']}")


@app.command("show")
@reporting
def show(config: ConfigArgument, call: CallArgument, as_json: JsonOption = False) -> None:
    """Show a call with its outcome and its timeline."""
    from holdfast_server.cli import stored
    from holdfast_server.config import store_of

    payload = stored.call(store_of(config), call)
    if as_json:
        print_json(payload)
        return
    print(call_words(payload["call"]))
    print()
    print(timeline(payload["timeline"]))


@app.command("resume")
@reporting
def resume(config: ConfigArgument, call: CallArgument, as_json: JsonOption = False) -> None:
    """Run an ended call again, as a new call through policy and approval."""
    _change(config, "resume_call", {"call_id": call}, as_json)


@app.command("cancel")
@reporting
def cancel(config: ConfigArgument, call: CallArgument, as_json: JsonOption = False) -> None:
    """Withdraw a call, as far as that is possible."""
    _change(config, "cancel_call", {"call_id": call}, as_json)


@app.command("resolve")
@reporting
def resolve(
    config: ConfigArgument,
    call: CallArgument,
    outcome: Annotated[Resolution, typer.Option("--outcome", help="What you found out.")],
    reason: Annotated[str, typer.Option("--reason", help="How you know; kept with the call.")],
    result: Annotated[
        str | None, typer.Option("--result", help="With done: the tool's result for the agent, as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Settle a call in doubt by what you found out."""
    arguments: dict[str, Any] = {"call_id": call, "outcome": outcome.value, "reason": reason}
    if result is not None:
        if outcome is not Resolution.DONE:
            raise Failure("--result goes with --outcome done; leave it out", USAGE)
        arguments["result"] = json_object(result, "--result")
    _change(config, "resolve_call", arguments, as_json)


def json_object(text: str, option: str) -> dict[str, Any]:
    """`text` as a JSON object. Raises `Failure` naming `option`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{option} is not JSON: {error}; put it in single quotes", USAGE) from None
    if not isinstance(value, dict):
        raise Failure(f'{option} must be a JSON object; write {{"name": "value"}}', USAGE)
    return value


def _change(config: Path, tool: str, arguments: Mapping[str, Any], as_json: bool) -> None:
    from holdfast_server.cli.remote import ask

    payload = ask(config, tool, arguments)
    if as_json:
        print_json(payload)
        return
    call = payload["call"]
    asked = ", cancel requested" if call.get("cancel_requested") and call["status"] == "running" else ""
    print(f"call {call['id']}: {call['status']}{asked}")


def call_words(call: Mapping[str, Any]) -> str:
    """A call, field by field."""
    arguments = [f"{name}: {one_line(value)}" for name, value in call["arguments"].items()]
    return fields(
        (
            ("call", call["id"]),
            ("status", call["status"] + (", cancel requested" if call.get("cancel_requested") else "")),
            ("tool", call["tool"]),
            ("arguments", "\n".join(arguments) or "none"),
            ("asked by", call["principal"]),
            ("key", call.get("key", "")),
            ("asked", moment_words(call["created_at"])),
            ("ended", moment_words(call.get("ended_at"))),
            ("attempts", str(call["attempts"])),
            ("rules", ", ".join(call.get("rules", ()))),
            ("note", call.get("note", "")),
            ("approval", call.get("approval_id", "")),
            ("resumes", call.get("resumes", "")),
            ("outcome", outcome_words(call.get("outcome"))),
        )
    )


def outcome_words(outcome: Mapping[str, Any] | None) -> str:
    """What came of a call: its texts where it has any, else the payload."""
    if outcome is None:
        return ""
    texts = [block["text"] for block in outcome.get("content", ()) if block.get("type") == "text" and "text" in block]
    rest = {name: value for name, value in outcome.items() if name != "kind"}
    words = "\n".join(texts) or outcome.get("message") or one_line(rest)
    cut = words if len(words) <= LONGEST_RESULT else words[:LONGEST_RESULT] + "\n... (--json shows all)"
    return f"{outcome['kind']}: {cut}" if "\n" not in cut else f"{outcome['kind']}:\n{cut}"
