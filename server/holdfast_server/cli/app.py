"""The `holdfast` command: what it takes. What each command does is in the module that it imports."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast_server.cli import approvals, calls, engine
from holdfast_server.cli.arguments import ConfigArgument, JsonOption
from holdfast_server.cli.failures import reporting

app = typer.Typer(
    name="holdfast",
    help="An MCP gateway that makes tool calls reliable: validated, at most once, approved when risky, explainable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(name="config", help="The config file.", no_args_is_help=True)
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
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="The file to write.")] = Path("holdfast.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a first config with an approver, and say what to do next."""
    from holdfast_server.cli import init as command

    command.init(path, force, as_json)


@config_app.command("check")
@reporting
def config_check(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Check a config file; exit code 2 where it cannot be used."""
    from holdfast_server.cli import check

    raise typer.Exit(check.check(config, as_json).code)


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
app.add_typer(config_app)
app.add_typer(policy_app)
app.add_typer(engine.app)
