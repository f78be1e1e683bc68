"""The operator's token: made by the engine, read by commands of the same user, 0600 in the state folder."""

import os
import secrets
from pathlib import Path

from holdfast_server.engine.paths import PRIVATE_FILE, no_room
from holdfast_store.model.errors import EngineError

TOKEN_BYTES = 32


def ensure_admin_token(path: Path) -> str:
    """The token in `path`; a new one is made where there is none. Call it while holding the engine's lock.

    Raises `EngineError` where the file cannot be read or written.
    """
    token = read_admin_token(path)
    if token is not None:
        return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{token}\n")
        fresh.rename(path)
    except OSError as error:
        raise EngineError(f"cannot write the admin token {path}: {no_room(error, path.parent)}") from error
    return token


def read_admin_token(path: Path) -> str | None:
    """The token in `path`; None where there is none. Raises `EngineError` where others could have read or set it."""
    try:
        with path.open() as file:
            found = os.fstat(file.fileno())
            token = file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineError(f"cannot read the admin token {path}: {error.strerror}") from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EngineError(
            f"{path} can be read or written by others: remove it, then `holdfast engine restart` makes a new one"
        )
    return token or None
