"""How a command fails: one line per cause on stderr, and an exit code out of one table."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, ParamSpec, TypeVar

import typer

from holdfast_store.model.errors import (
    AccessDenied,
    ConfigError,
    EngineError,
    HoldfastError,
    NotFound,
    StoreError,
    UnknownTool,
)

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class Exit:
    """One exit code, and when a command ends with it."""

    code: int
    meaning: str


OK = Exit(0, "it worked; a check found nothing")
FAILED = Exit(1, "a check found a problem, or what was asked cannot be done as things stand")
USAGE = Exit(2, "the config cannot be used, or the command line was wrong")
NOT_FOUND = Exit(3, "there is no such call, approval, tool or principal, or you may not touch it")
NO_ENGINE = Exit(4, "the engine could not be started or reached")
NO_STORE = Exit(5, "the store could not be read")
INTERRUPTED = Exit(130, "interrupted with Ctrl-C")

EXITS = (OK, FAILED, USAGE, NOT_FOUND, NO_ENGINE, NO_STORE, INTERRUPTED)

_BY_ERROR: tuple[tuple[type[HoldfastError], Exit], ...] = (
    (ConfigError, USAGE),
    (NotFound, NOT_FOUND),
    (AccessDenied, NOT_FOUND),
    (UnknownTool, NOT_FOUND),
    (EngineError, NO_ENGINE),
    (StoreError, NO_STORE),
)


class Failure(HoldfastError):
    """A failure that knows its exit code. The text is ``cause; mend``."""

    code = "failure"

    def __init__(self, message: str, exit_with: Exit = FAILED) -> None:
        super().__init__(message)
        self.exit_with = exit_with


def exit_of(error: HoldfastError) -> Exit:
    """The exit code that `error` ends a command with."""
    if isinstance(error, Failure):
        return error.exit_with
    return next((found for kind, found in _BY_ERROR if isinstance(error, kind)), FAILED)


def complain(message: str) -> None:
    """Write `message` to stderr. Each line of a config's problems is an error of its own."""
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)


def warn(message: str) -> None:
    """Tell what may be otherwise than expected, on stderr."""
    for line in message.splitlines():
        print(f"warning: {line}", file=sys.stderr)


def note(message: str) -> None:
    """Tell something beside the result, on stderr."""
    print(f"note: {message}", file=sys.stderr)


def reporting(command: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Turn what `command` raises into an error on stderr and an exit code."""

    @functools.wraps(command)
    def reported(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            try:
                return command(*args, **kwargs)
            finally:
                sys.stdout.flush()  # a reader that is gone must show here, not when the interpreter ends
        except ConfigError as error:
            complain(str(error))
            raise typer.Exit(USAGE.code) from None
        except HoldfastError as error:
            first, *others = str(error).splitlines() or [type(error).__name__]
            print(f"error: {first}", *others, sep="\n", file=sys.stderr)
            raise typer.Exit(exit_of(error).code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED.code) from None
        except BrokenPipeError:
            _leave_quietly()

    return reported


def _leave_quietly() -> NoReturn:
    """Whoever read our output is gone: nothing is left to say, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(OK.code)
