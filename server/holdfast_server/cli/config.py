"""`holdfast config`: the file, and the engine that goes by it."""

import typer

from holdfast_server.cli.arguments import ConfigArgument, JsonOption
from holdfast_server.cli.failures import reporting

app = typer.Typer(name="config", help="The config file.", no_args_is_help=True)


@app.command("check")
@reporting
def check(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Check a config file; exit code 2 where it cannot be used."""
    from holdfast_server.cli import check as command

    raise typer.Exit(command.check(config, as_json).code)


@app.command("reload")
@reporting
def reload(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Bring the config file into the running engine; exit code 2, and nothing changed, where it cannot be used."""
    from holdfast_server.cli import reload as command

    raise typer.Exit(command.reload(config, as_json).code)
