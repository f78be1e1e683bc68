"""Asking the engine: every change goes through it, with the operator's token or `$HOLDFAST_TOKEN`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast_server.cli.failures import NOT_FOUND, USAGE, Failure, warn
from holdfast_server.engine.client import connect
from holdfast_server.engine.connection import Refused, StartFailed
from holdfast_store.model.errors import InvalidArguments
from holdfast_store.model.values import Json

TOKEN_VARIABLE = "HOLDFAST_TOKEN"  # noqa: S105 - the name of a variable


def token() -> str | None:
    """The token that the environment names; None means the operator's own."""
    return os.environ.get(TOKEN_VARIABLE) or None


def ask(config: Path, tool: str, arguments: Mapping[str, Any], *, start: bool = True) -> Json:
    """The answer of the admin tool `tool`; the engine is started where none lives and `start`.

    Raises the error that the engine names, `Failure` where it refuses the caller or the config, and `EngineError`
    where there is no reaching it.
    """
    try:
        with connect(existing(config), token=token(), start=start) as client:
            if client.warning is not None:
                warn(client.warning)
            return client.call_tool(tool, arguments)
    except Refused as error:
        raise Failure(str(error), NOT_FOUND) from error
    except StartFailed as error:
        if error.refused:
            raise Failure(str(error), USAGE) from error
        raise
    except InvalidArguments as error:
        raise Failure(str(error), USAGE) from error


def existing(config: Path) -> Path:
    """`config`, once it is sure that a typo does not name another engine. Raises `Failure`."""
    if not config.is_file():
        raise Failure(f"{config}: there is no such file; correct the path", USAGE)
    return config
