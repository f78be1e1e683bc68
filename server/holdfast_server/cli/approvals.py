"""`holdfast approvals`: what waits for people, and their verdicts."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast_server.cli.arguments import ConfigArgument, CursorOption, JsonOption, LimitOption
from holdfast_server.cli.failures import note, reporting
from holdfast_server.cli.output import Column, age, fields, moment_words, one_line, print_json, table

app = typer.Typer(name="approvals", help="What waits for people, and their verdicts.", no_args_is_help=True)

ApprovalArgument = Annotated[str, typer.Argument(metavar="APPROVAL", help="The approval's id.")]


class Shown(StrEnum):
    """Which approvals to list."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ALL = "all"


@app.command("list")
@reporting
def list_approvals(
    config: ConfigArgument,
    status: Annotated[Shown, typer.Option("--status", help="Only those that stand so.")] = Shown.PENDING,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    as_json: JsonOption = False,
) -> None:
    """List approvals, newest first; by default those that are pending."""
    from holdfast_server.cli import stored
    from holdfast_server.config import store_of
    from holdfast_store.model.values import ApprovalStatus

    wanted = None if status is Shown.ALL else ApprovalStatus(status.value)
    payload = stored.approvals(store_of(config), wanted, limit, cursor)
    if as_json:
        print_json(payload)
        return
    found = payload["approvals"]
    if not found:
        print("no approvals" if status is Shown.ALL else f"no {status.value} approvals")
        return
    columns = (Column("approval", kept=True), Column("status", kept=True), Column("tool"), Column("age", kept=True))
    print(table(columns, [(a["id"], a["status"], a["tool"], age(a["created_at"])) for a in found]))
    if "cursor" in payload:
        note(f"there are more: --cursor {payload['cursor']}")


@app.command("show")
@reporting
def show(config: ConfigArgument, approval: ApprovalArgument, as_json: JsonOption = False) -> None:
    """Show everything an approver must see before deciding."""
    from holdfast_server.cli import stored
    from holdfast_server.config import store_of

    payload = stored.approval(store_of(config), approval)
    if as_json:
        print_json(payload)
    else:
        print(approval_words(payload["approval"]))


@app.command("approve")
@reporting
def approve(
    config: ConfigArgument,
    approval: ApprovalArgument,
    comment: Annotated[str, typer.Option("--comment", help="Kept with the verdict.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Approve a parked call; it runs once the quorum is reached."""
    _decide(config, "approve", {"approval_id": approval, "comment": comment}, as_json)


@app.command("reject")
@reporting
def reject(
    config: ConfigArgument,
    approval: ApprovalArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it reaches the model that asked.")],
    as_json: JsonOption = False,
) -> None:
    """Reject a parked call."""
    _decide(config, "reject", {"approval_id": approval, "reason": reason}, as_json)


def _decide(config: Path, tool: str, arguments: Mapping[str, str], as_json: bool) -> None:
    from holdfast_server.cli.remote import ask

    payload = ask(config, tool, arguments)
    if as_json:
        print_json(payload)
        return
    approval, call = payload["approval"], payload["call"]
    verdicts = [verdict for verdict in approval["verdicts"] if verdict["verdict"] == "approve"]
    counted = f" ({len(verdicts)} approved so far)" if approval["status"] == "pending" else ""
    print(f"approval {approval['id']}: {approval['status']}{counted}")
    print(f"call {call['id']}: {call['status']}")


def approval_words(approval: Mapping[str, Any]) -> str:
    """An approval, field by field."""
    needed = [
        f"{need['rule']}: {need['min']} of {', '.join(need['roles'])}"
        + (", not the requester" if need["prevent_self_review"] else "")
        for need in approval["requirements"]
    ]
    verdicts = [
        f"{verdict['verdict']} by {verdict['principal']}, {moment_words(verdict['at'])}"
        + (f': "{verdict["comment"]}"' if verdict["comment"] else "")
        for verdict in approval["verdicts"]
    ]
    arguments = [f"{name}: {one_line(value)}" for name, value in approval["arguments"].items()]
    return fields(
        (
            ("approval", approval["id"]),
            ("status", approval["status"]),
            ("tool", approval["tool"]),
            ("arguments", "\n".join(arguments) or "none"),
            ("reason", approval["reason"]),
            ("requested by", ", ".join(approval["requesters"])),
            ("asked", moment_words(approval["created_at"])),
            ("expires", moment_words(approval["expires_at"]) if approval["status"] == "pending" else ""),
            ("decided", moment_words(approval.get("decided_at"))),
            ("needs", "\n".join(needed)),
            ("verdicts", "\n".join(verdicts)),
            ("call", approval["call_id"]),
        )
    )
