"""Where the engine of one config keeps its things. Standard library only: the stdio shim starts with this.

A config's identity is its real path. Its state folder is `$XDG_STATE_HOME/holdfast/<16 hex digits>`, 0700:

    engine.lock    held by the engine of this config, names it          start.lock     held by whoever starts one
    engine.sock    where it listens                                     engine.log     what a detached engine prints
    admin.token    the operator's token                                 state.db       the default store

A Unix socket's path has at most about 100 bytes. Where the state folder's is longer, `engine.sock` is a symbolic link
that says where the socket is instead, so that starters with different environments still find the same engine.
"""

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from holdfast_store.model.errors import EngineError

SOCKET_PATH_BYTES = 100
DIGITS = 16
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StatePaths:
    """The paths of one config's engine. Values only: `prepare` makes the folders."""

    __slots__ = ("folder", "lock", "log", "socket", "start_lock", "store", "token")

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder = folder
        self.lock = folder / "engine.lock"
        self.start_lock = folder / "start.lock"
        self.log = folder / "engine.log"
        self.token = folder / "admin.token"
        self.store = folder / "state.db"
        self.socket = socket


def state_paths(config: Path, environ: Mapping[str, str]) -> StatePaths:
    """The paths for `config`, a file that need not exist. Reads at most one symbolic link, and changes nothing."""
    folder = _state_home(environ) / "holdfast" / _digits(os.fsencode(os.path.realpath(config)))
    return StatePaths(folder, _socket(folder, environ))


def prepare(config: Path, environ: Mapping[str, str]) -> StatePaths:
    """The paths for `config`, with their folders made, 0700.

    Raises `EngineError` where a folder cannot be made, is no folder, or belongs to another user.
    """
    paths = state_paths(config, environ)
    private_folder(paths.folder, "XDG_STATE_HOME")
    if paths.socket.parent == paths.folder:
        return paths
    for _ in range(2):
        try:
            private_folder(paths.socket.parent, "XDG_RUNTIME_DIR")
        except EngineError:
            # The folder it was in may be gone for good, as a login session's is: choose again.
            _forget_socket(paths.folder)
            paths = state_paths(config, environ)
            private_folder(paths.socket.parent, "XDG_RUNTIME_DIR")
        if _record_socket(paths):
            break
        paths = state_paths(config, environ)
    return paths


def private_folder(folder: Path, variable: str) -> None:
    """Make `folder` (and, with the usual mode, its parents), 0700 and this user's own.

    Raises `EngineError`; `variable` is the one that says where it is.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=PRIVATE_FOLDER)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise EngineError(f"{folder} is not a folder: move it away")
        if found.st_uid != os.geteuid():
            raise EngineError(
                f"{folder} belongs to user {found.st_uid}, not to user {os.geteuid()}: "
                f"run as that user, or set {variable} to a folder of your own"
            )
        if stat.S_IMODE(found.st_mode) != PRIVATE_FOLDER:
            folder.chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise EngineError(
            f"cannot make the folder {folder}: {error.strerror}; set {variable} to one you can write"
        ) from error


def no_room(error: OSError, folder: Path) -> str:
    """Why nothing could be written in the state folder, and the mend."""
    if error.errno in NO_ROOM:
        return (
            f"{error.strerror}; free some space on the disk of {folder}, or lift the limit that is in the way, "
            "or set XDG_STATE_HOME to a folder on another disk"
        )
    return f"{error.strerror}; see to it that this user can write in {folder}"


def _state_home(environ: Mapping[str, str]) -> Path:
    named = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    home = environ.get("HOME") or os.path.expanduser("~")
    return Path(home) / ".local" / "state"


def _socket(folder: Path, environ: Mapping[str, str]) -> Path:
    socket = folder / "engine.sock"
    if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES:
        return socket
    try:
        return Path(os.readlink(socket))
    except OSError:
        return _short_socket(folder, environ)


def _short_socket(folder: Path, environ: Mapping[str, str]) -> Path:
    name = f"{_digits(os.fsencode(folder))}.sock"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        socket = Path(runtime) / "holdfast" / name
        if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES:
            return socket
    return Path("/tmp") / f"holdfast-{os.geteuid()}" / name  # noqa: S108 - a private folder in it, owner checked


def _record_socket(paths: StatePaths) -> bool:
    """Write down where the socket is. False where something else stood there: look again."""
    link = paths.folder / "engine.sock"
    try:
        with suppress(FileExistsError):
            link.symlink_to(paths.socket)
            return True
        if link.is_symlink():
            return Path(os.readlink(link)) == paths.socket
        link.unlink(missing_ok=True)  # it never was an engine's, or the folder's path was shorter then
    except OSError as error:
        raise EngineError(f"cannot write {link}: {no_room(error, paths.folder)}") from error
    return False


def _forget_socket(folder: Path) -> None:
    (folder / "engine.sock").unlink(missing_ok=True)


def _digits(name: bytes) -> str:
    return sha256(name).hexdigest()[:DIGITS]
