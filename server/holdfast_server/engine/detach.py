"""Finds the engine of a config, or starts one that outlives whoever needed it. Standard library only.

Under the start lock the socket is tried again, so of many that start at once one spawns and the others find its engine.
The engine gets the environment of whoever starts it, the config's folder as its working directory, the null device as
stdin, the log as stdout and stderr, no other descriptor, and a session of its own.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from holdfast_server.engine.connection import StartFailed, connect_socket
from holdfast_server.engine.lock import is_held, owner_of, start_lock
from holdfast_server.engine.paths import PRIVATE_FILE, StatePaths, no_room
from holdfast_store.model.errors import EngineError

__all__ = ["StartFailed", "connect_or_start", "engine_command", "log_tail"]

START_TIMEOUT_S = 30.0
POLL_S = 0.01
LOG_LINES = 20
LOG_TAIL_BYTES = 65_536
LOG_ROTATION_BYTES = 10_000_000
REFUSED_EXIT_CODE = 2
LAUNCH_TIMEOUT_S = 10.0
PROBE_BYTES = 65_536


def engine_command(config: Path) -> tuple[str, ...]:
    """The command line of the detached engine of `config`."""
    # -P: the config's folder, which is the working directory, must not shadow any module.
    return (sys.executable, "-P", "-m", "holdfast_server.engine", os.path.realpath(config))


def connect_or_start(
    config: Path,
    paths: StatePaths,
    environ: Mapping[str, str],
    *,
    command: Sequence[str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> socket.socket:
    """A connection to the engine of `config`, which is started where none lives. `paths` must be prepared.

    Raises `StartFailed` when it exits, or does not listen within `timeout_s` seconds (it is ended then), and
    `EngineError` when another start or another engine's stop takes longer than that.
    """
    deadline = time.monotonic() + timeout_s
    with start_lock(paths.start_lock, timeout_s):
        while (connection := connect_socket(paths.socket)) is None:
            if not is_held(paths.lock):
                return _start(command or engine_command(config), config, paths, environ, timeout_s)
            # An engine that is stopping, or that somebody starts in the foreground.
            if time.monotonic() >= deadline:
                raise EngineError(_not_listening(paths, timeout_s))
            time.sleep(POLL_S)
        return connection


def log_tail(log: Path, since: int = 0) -> str:
    """The last lines of `log`, of those written after its first `since` bytes; "" where there are none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LOG_LINES:])


def _start(
    command: Sequence[str], config: Path, paths: StatePaths, environ: Mapping[str, str], timeout_s: float
) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    _check_room(paths.folder)
    log, log_start = _open_log(paths.log)
    try:
        launch = subprocess.Popen(
            (sys.executable, "-P", "-m", "holdfast_server.engine.launch", *command),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=Path(os.path.realpath(config)).parent,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as error:
        raise StartFailed(f"the engine cannot be started: {error}") from error
    finally:
        os.close(log)
    end_engine = False
    try:
        while True:
            exit_code = launch.poll()
            if (connection := connect_socket(paths.socket)) is not None:
                return connection
            if exit_code is not None and not is_held(paths.lock):
                how = f"it exited with code {exit_code}"
                raise StartFailed(_why(paths.log, log_start, how), refused=exit_code == REFUSED_EXIT_CODE)
            if time.monotonic() >= deadline:
                end_engine = True
                raise StartFailed(_why(paths.log, log_start, f"it did not listen within {timeout_s:g} s"))
            time.sleep(POLL_S)
    finally:
        _let_go(launch, end_engine=end_engine)


def _let_go(launch: subprocess.Popen[bytes], *, end_engine: bool) -> None:
    """Let the engine belong to nobody, or end it; and reap the process that stood between."""
    with suppress(BrokenPipeError):
        launch.communicate(b"x" if end_engine else None, timeout=LAUNCH_TIMEOUT_S)


def _check_room(folder: Path) -> None:
    """Raise `StartFailed` where the state folder takes nothing: the engine could not even log why it ends."""
    probe = folder / "room.probe"
    try:
        try:
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise StartFailed(
            f"the engine cannot be started: nothing can be written in {folder}: {no_room(error, folder)}"
        ) from error


def _open_log(path: Path) -> tuple[int, int]:
    """A descriptor that appends to the log, and the log's size. A long log becomes `<name>.1`, the one before goes."""
    try:
        with suppress(FileNotFoundError):
            if path.stat().st_size > LOG_ROTATION_BYTES:
                path.rename(path.with_name(f"{path.name}.1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(path, flags, PRIVATE_FILE)
    except OSError as error:
        raise StartFailed(f"cannot open the engine's log {path}: {no_room(error, path.parent)}") from error
    return log, os.fstat(log).st_size


def _why(log: Path, log_start: int, how: str) -> str:
    lines = log_tail(log, log_start)
    said = f"the last lines of {log}:\n{lines}" if lines else f"{log} has no word of why"
    return f"the engine did not start: {how}; {said}"


def _not_listening(paths: StatePaths, timeout_s: float) -> str:
    owner = owner_of(paths.lock)
    named = owner.describe() if owner is not None else f"whoever holds {paths.lock}"
    return f"{named} has not listened on {paths.socket} for {timeout_s:g} s: end it, then try again"
