"""`holdfast engine`: the background process of one config."""

from typing import Annotated

import typer

from holdfast_server.cli.arguments import ConfigArgument, JsonOption
from holdfast_server.cli.failures import reporting

app = typer.Typer(name="engine", help="The background process that runs the calls of a config.", no_args_is_help=True)

DrainOption = Annotated[
    float, typer.Option("--drain", min=0, max=600, help="Seconds to wait for calls that are under way.")
]


@app.command("status")
@reporting
def status(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Show the running engine; exit code 1 where none is running."""
    from holdfast_server.cli import engine_control

    raise typer.Exit(engine_control.status(config, as_json).code)


@app.command("stop")
@reporting
def stop(config: ConfigArgument, drain: DrainOption = 10.0, as_json: JsonOption = False) -> None:
    """Drain and stop the engine. Nothing is lost: what waits, waits on in the store."""
    from holdfast_server.cli import engine_control

    engine_control.stop(config, drain, as_json)


@app.command("restart")
@reporting
def restart(config: ConfigArgument, drain: DrainOption = 10.0, as_json: JsonOption = False) -> None:
    """Stop the engine and start it with the config as it is now. Clients stay connected."""
    from holdfast_server.cli import engine_control

    engine_control.restart(config, drain, as_json)


@app.command("logs")
@reporting
def logs(
    config: ConfigArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what the background engine logged."""
    from holdfast_server.cli import engine_control

    engine_control.logs(config, lines, follow, as_json)
