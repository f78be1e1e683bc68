"""The `holdfast` command: what it takes. What each command does is in the module that it imports."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast_policy.values import Preset
from holdfast_server.cli import approvals, calls, config, engine
from holdfast_server.cli.arguments import ConfigArgument, JsonOption
from holdfast_server.cli.failures import USAGE, Failure, reporting

app = typer.Typer(
    name="holdfast",
    help="An MCP gateway that makes tool calls reliable: validated, at most once, approved when risky, explainable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
policy_app = typer.Typer(name="policy", help="What policy says of calls.", no_args_is_help=True)

PrincipalOption = Annotated[
    str | None, typer.Option("--principal", metavar="ID", help="Who asks; by default the local caller.")
]


@app.command("serve")
@reporting
def serve(
    config: ConfigArgument,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Serve over HTTP in the foreground.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Serve this principal rather than the local caller.")
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run the engine in this process, for containers.")
    ] = False,
) -> None:
    """Serve the tools of CONFIG: on stdio, or with --http at /mcp and /admin/mcp."""
    from holdfast_server.cli import serve as command

    raise typer.Exit(command.serve(config, http, principal, in_process))


@app.command("init")
@reporting
def init(
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="The file to write; holdfast.yaml where none is named.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CLIENT|FILE",
            help="Bring along the servers of claude-desktop, claude-code, cursor, vscode, or of a client's file.",
        ),
    ] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="SCOPE", help="Which of the client's scopes: user, local, project.")
    ] = None,
    project: Annotated[
        Path, typer.Option("--project", metavar="FOLDER", help="The folder of a project, for its scopes.")
    ] = Path(),
    preset: Annotated[Preset | None, typer.Option("--preset", help="What happens to calls no rule matches.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put Holdfast into the client's file, with a backup.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put the client's servers back as they were.")] = False,
    connect: Annotated[
        bool, typer.Option("--connect/--no-connect", help="Connect to each server once, to see its tools.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a first config with an approver, with a client's servers where --from names one."""
    if source is None:
        from holdfast_server.cli import init as command

        if scope or preset or write or undo or not connect:
            raise Failure("--scope, --preset, --write, --undo and --no-connect go with --from", USAGE)
        command.init(path or Path("holdfast.yaml"), force, as_json)
        return
    from holdfast_server.cli import init_from

    options = init_from.Options(
        source, path, project.resolve(), scope, preset, write=write, connect=connect, force=force, as_json=as_json
    )
    if undo:
        init_from.undo(options)
    else:
        raise typer.Exit(init_from.init_from(options).code)


@policy_app.command("explain")
@reporting
def policy_explain(
    config: ConfigArgument,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool, server__tool.")],
    args: Annotated[str, typer.Option("--args", metavar="JSON", help="The call's arguments.")] = "{}",
    principal: PrincipalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would happen to a call, by which rules, and why. Nothing is called."""
    from holdfast_server.cli.explain import explain

    explain(config, tool, calls.json_object(args, "--args"), principal, as_json)


@app.command("tools")
@reporting
def tools(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """List every tool as last seen: what is believed of it, and what happens to a call."""
    from holdfast_server.cli import tools as command

    command.tools(config, as_json)


@app.command("doctor")
@reporting
def doctor(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Look for everything that could be wrong; exit code 1 where something is."""
    from holdfast_server.cli import doctor as command

    raise typer.Exit(command.doctor(config, as_json).code)


@app.command("version")
@reporting
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    from holdfast_server.cli.output import print_json
    from holdfast_server.version import VERSION

    if as_json:
        print_json({"version": VERSION})
    else:
        print(VERSION)


app.add_typer(approvals.app)
app.add_typer(calls.app)
app.add_typer(config.app)
app.add_typer(policy_app)
app.add_typer(engine.app)
