"""Whether the write-ahead log still holds every commit that was acknowledged.

SQLite reads the log up to its first frame that does not fit, and takes what is behind it for a transaction that never
was. After a crash that is right: such frames were not synced, so nobody was told of them. Where a disk or a person cut
the log short, it forgets acknowledged commits without a word. The index beside the log (``-shm``) knows how far the log
reached: SQLite moves its mark only after the frames were synced, so a mark beyond the log's end proves a loss.

Layouts: SQLite, "WAL-mode File Format", sections 1.1 and 2.1, and "Database File Format", section 4.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from holdfast_store.model.errors import StoreError

_LOG_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, salt 1, salt 2, checksum 1 and 2
_FRAME_HEADER = struct.Struct(">6I")  # page, size after commit, salt 1, salt 2, checksum 1 and 2
_MARK = struct.Struct("=IIIBBHII2I8s2I")  # as in the index's header, of which there are two copies
_BACKFILLED_AT = 96
_NUMBERS = struct.Struct("=2I")
_LARGEST_PAGE = 65_536


class _Mark(NamedTuple):
    """How far the log reached: its last committed frame, that frame's checksum, and the salts of its generation.

    The first `backfilled` frames are in the database itself by now.
    """

    page_size: int
    last_frame: int
    checksum: tuple[int, ...]
    salts: bytes
    backfilled: int


def check_log(path: Path) -> None:
    """Raise `StoreError` where the log of the store at `path` lacks commits that were acknowledged. Changes nothing.

    To be called before this process opens the store: closing the index again would drop SQLite's locks on it.
    """
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    try:
        mark = _mark(index)
        missing = mark is not None and mark.last_frame > mark.backfilled and not _reaches(log, mark)
    except OSError as error:
        raise StoreError(
            f"The store {path} cannot be read: {error.strerror}; check the disk, and that this user may read it.",
            "the file cannot be read",
        ) from error
    if missing:
        raise StoreError(
            f"The store {path} has lost acknowledged commits: its write-ahead log {log.name} ends before what "
            f"{index.name} remembers; restore a backup, all files of it. To go on without those commits, which may "
            f"let calls run a second time, remove {index.name}.",
            "its log was cut short",
        )


def _mark(index: Path) -> _Mark | None:
    """The index's mark; None where it holds none that can be trusted: its two copies must be the same."""
    try:
        with index.open("rb") as file:
            content = file.read(_BACKFILLED_AT + 4)
    except FileNotFoundError:
        return None
    first, second = content[: _MARK.size], content[_MARK.size : 2 * _MARK.size]
    if len(content) < _BACKFILLED_AT + 4 or first != second:
        return None
    _, _, _, initialized, _, page_size, last_frame, _, *checksum, salts, own_1, own_2 = _MARK.unpack(first)
    if not initialized or _checksum(first[:-8]) != (own_1, own_2):
        return None
    (backfilled,) = struct.unpack_from("=I", content, _BACKFILLED_AT)
    return _Mark(_LARGEST_PAGE if page_size == 1 else page_size, last_frame, tuple(checksum), salts, backfilled)


def _reaches(log: Path, mark: _Mark) -> bool:
    """Whether the log holds the marked frame; also where it is of another generation, which the mark knows not."""
    try:
        with log.open("rb") as file:
            header = file.read(_LOG_HEADER.size)
            file.seek(_LOG_HEADER.size + (mark.last_frame - 1) * (_FRAME_HEADER.size + mark.page_size))
            frame = file.read(_FRAME_HEADER.size + mark.page_size)
    except FileNotFoundError:
        return False
    if len(header) == _LOG_HEADER.size and header[16:24] != mark.salts:
        return True
    if len(frame) < _FRAME_HEADER.size + mark.page_size:
        return False
    _, _, _, _, *checksum = _FRAME_HEADER.unpack_from(frame)
    return frame[8:16] == mark.salts and tuple(checksum) == mark.checksum


def _checksum(content: bytes) -> tuple[int, int]:
    """SQLite's running checksum, over pairs of native words."""
    first = second = 0
    for one, other in _NUMBERS.iter_unpack(content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
