"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The config file.")]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many to show, newest first.")]

CursorOption = Annotated[str | None, typer.Option("--cursor", help="Go on from where the last page ended.")]
