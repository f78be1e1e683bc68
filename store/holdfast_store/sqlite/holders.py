"""Which processes hold a store's write lock, as far as the system tells: Linux does, in ``/proc/locks``.

The files themselves are only looked at, never opened: a process that closes any descriptor of a file loses all POSIX
locks that it holds on it, SQLite's own among them.
"""

import os
from contextlib import suppress
from pathlib import Path

_LOCKS = Path("/proc/locks")

_WRITE_LOCK_BYTE = 120
"""Where in the ``-shm`` file the writer of a write-ahead log holds its lock (SQLite, "WAL-mode File Format", 2.3.1)."""


def lock_holders(path: Path) -> tuple[int, ...]:
    """The processes, this one aside, that keep others from writing to the store at `path`."""
    shared = path.with_name(f"{path.name}-shm")
    with suppress(OSError):
        found = _device_and_inode(shared)
        lines = _LOCKS.read_text().splitlines()
        holders = (_holder(line, found) for line in lines if " -> " not in line)
        return tuple(dict.fromkeys(pid for pid in holders if pid is not None and pid != os.getpid()))
    return ()


def _device_and_inode(path: Path) -> str:
    status = path.stat()
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def _holder(line: str, wanted: str) -> int | None:
    """The process of a line such as ``1: POSIX  ADVISORY  WRITE 4711 fe:00:12 120 120``, where it is about `wanted`."""
    _, kind, _, access, pid, file, start, end = line.split()
    covers = int(start) <= _WRITE_LOCK_BYTE and (end == "EOF" or int(end) >= _WRITE_LOCK_BYTE)
    return int(pid) if (kind, access, file) == ("POSIX", "WRITE", wanted) and covers else None
