"""One owner per store and per config, by `flock`: the kernel frees the lock when its owner dies, however it dies.

A lock file is never removed, only emptied: a removed one could be locked by two at once.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from holdfast_server.engine.paths import PRIVATE_FILE, no_room
from holdfast_store.model.errors import EngineError

POLL_S = 0.02
PATIENCE_S = 0.5
"""How long a lock may be held by one that is not its owner: a probe, or a new owner yet to write its name."""
MAX_OWNER_BYTES = 65_536

Mode = Literal["detached", "http", "in-process"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock: `config` is the real path of its config, `started_at` an ISO-8601 time in UTC."""

    pid: int
    config: str
    started_at: str
    mode: Mode

    @classmethod
    def this_process(cls, config: Path, mode: Mode) -> Self:
        """This process as the owner for `config`, from now on."""
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), os.path.realpath(config), started_at, mode)

    def describe(self) -> str:
        return f"process {self.pid}, the {self.mode} engine of {self.config} since {self.started_at}"


class OwnerLock:
    """The exclusive lock `path`, with the owner's name in it. Not reentrant; freed by `release` or by death."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self._descriptor: int | None = None

    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take the lock, waiting up to `wait_s` seconds for an earlier engine of the same config to end.

        Raises `EngineError` naming the owner: at once where it is another config's engine, else when the time is up;
        and where the owner's name cannot be written.
        """
        if self.held():
            raise RuntimeError(f"{self.path} is held already")
        began = time.monotonic()
        while (descriptor := _try_lock(self.path)) is None:
            owner = owner_of(self.path)
            foreign = owner is not None and owner.config != self.owner.config
            if foreign or time.monotonic() - began >= max(wait_s, PATIENCE_S):
                raise EngineError(self._refusal(owner))
            time.sleep(POLL_S)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(self.owner)).encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise EngineError(f"cannot write the lock {self.path}: {no_room(error, self.path.parent)}") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up. Harmless where it is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        if not self.held():
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _refusal(self, owner: Owner | None) -> str:
        if owner is None:
            return f"{self.path} is held by a process that does not name itself: end it"
        if owner.config != self.owner.config:
            return (
                f"{self.path.with_suffix('')} is in use by {owner.describe()}: "
                f"stop that with `holdfast engine stop {owner.config}`, or give this config a store of its own"
            )
        return f"{owner.describe()} is running already: stop it first"


def owner_of(path: Path) -> Owner | None:
    """Who says in `path` that they hold it. None where nobody does; whether they still live, only `acquire` knows."""
    try:
        with path.open("rb") as file:
            return Owner(**json.loads(file.read(MAX_OWNER_BYTES)))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether somebody holds `path`. Takes the lock for an instant to find out. Raises `EngineError`."""
    descriptor = _try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def start_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold `path` while starting an engine, so that others wait and then find it, rather than start a second.

    Raises `EngineError` when another start holds it for longer than `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise EngineError(f"another start of this engine has held {path} for more than {timeout_s:g} s")
        time.sleep(POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds `path`, or None. Raises `EngineError` where the file cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    except OSError as error:
        raise EngineError(f"cannot open the lock {path}: {no_room(error, path.parent)}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, named = os.fstat(descriptor), path.stat()
        if (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
