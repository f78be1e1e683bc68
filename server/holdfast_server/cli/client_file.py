"""A client's own file: read, changed in one mapping alone, and put back as it was.

Every change is one atomic replacement with a backup beside it, so that the client finds the old file or the new one,
and nothing between. What the client itself wrote since is kept.
"""

import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast_server.cli import jsonc
from holdfast_server.cli.clients import Place
from holdfast_server.cli.failures import USAGE, Failure
from holdfast_server.cli.translate import is_own
from holdfast_store.model.values import Json

BACKUP_SUFFIX = ".holdfast-backup"
LARGEST_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Section:
    """The mapping of servers at one place, as it was read: None where the place has none."""

    place: Place
    entries: Mapping[str, Any] | None

    @property
    def own(self) -> bool:
        """Whether Holdfast is among the servers."""
        return any(is_own(entry) for entry in (self.entries or {}).values())


@dataclass(frozen=True, slots=True)
class Undone:
    """What was put back. `backup` is kept where the file was not restored byte for byte."""

    file: Path
    servers: tuple[str, ...]
    whole: bool
    backup: Path


def read_section(place: Place) -> Section:
    """The servers at `place`. Raises `Failure` where its file is there and cannot be read."""
    if not place.file.is_file():
        return Section(place, None)
    return Section(place, _entries(_read(place.file), place, place.file))


def write_entry(section: Section, entries: Json) -> Path:
    """Replace the servers of `section` by `entries`; the backup's path.

    Raises `Failure` where the file has other servers by now than were read, or cannot be written.
    """
    file = section.place.file.resolve()
    text = _read(file)
    if _entries(text, section.place, file) != section.entries:
        raise Failure(f"{file} was changed meanwhile; nothing was written, run the command again")
    backup = _backup(file, text)
    replace_text(file, jsonc.replaced(text, section.place.path, entries), _mode(file))
    return backup


def undo(section: Section) -> Undone:
    """Put back the servers that were there before Holdfast, beside those that were added since."""
    file = section.place.file.resolve()
    text = _read(file)
    current = _entries(text, section.place, file) or {}
    backup, before_text, before = _latest_backup(section.place, file)
    added = {name: entry for name, entry in current.items() if name not in before and not is_own(entry)}
    unchanged = all(before[name] == entry for name, entry in current.items() if name in before and not is_own(entry))
    whole = not added and unchanged and jsonc.replaced(before_text, section.place.path, current) == text
    kept = {name: current[name] if name in current and not is_own(current[name]) else before[name] for name in before}
    restored = before_text if whole else jsonc.replaced(text, section.place.path, {**kept, **added})
    replace_text(file, restored, _mode(file))
    if whole:
        backup.unlink()
    return Undone(file, tuple(before), whole, backup)


def replace_text(path: Path, text: str, mode: int) -> None:
    """Put `text` at `path` at once or not at all; nobody without `mode` could ever read it. Raises `Failure`."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _create(fresh, text, mode)
        try:
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}; choose another place") from error


def _create(path: Path, text: str, mode: int) -> None:
    """A new file of this mode whatever the umask, on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        os.chmod(path, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _backup(file: Path, text: str) -> Path:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in range(1, 1000):
        backup = file.with_name(f"{file.name}.{moment}-{number:03}{BACKUP_SUFFIX}")
        try:
            _create(backup, text, _mode(file))
        except FileExistsError:
            continue
        except OSError as error:
            raise Failure(f"cannot write the backup {backup}: {error.strerror}; nothing was changed") from error
        return backup
    raise Failure(f"{file.parent} is full of backups; remove those you do not need")


def _latest_backup(place: Place, file: Path) -> tuple[Path, str, Mapping[str, Any]]:
    """The newest backup from before Holdfast was at `place`. Raises `Failure` where there is none."""
    for backup in _backups(file):
        text = _read(backup)
        before = _entries(text, place, backup)
        if before is not None and not any(is_own(entry) for entry in before.values()):
            return backup, text, before
    raise Failure(f"there is no backup beside {file}; put its servers back by hand, they are in Holdfast's config")


def _backups(file: Path) -> Iterator[Path]:
    found = (p for p in file.parent.iterdir() if p.name.startswith(f"{file.name}.") and p.name.endswith(BACKUP_SUFFIX))
    return iter(sorted(found, reverse=True))


def _entries(text: str, place: Place, file: Path) -> Mapping[str, Any] | None:
    try:
        node = jsonc.find(jsonc.parse(text), place.path) if text.strip(" \t\r\n\ufeff") else None
    except jsonc.NotJson as error:
        raise Failure(f"{file}:{error.line}: {error.cause}; mend the file, then try again", USAGE) from error
    if node is None:
        return None
    if not isinstance(node.value, dict):
        raise Failure(f"{file}: {' > '.join(place.path)} is no object; mend the file, then try again", USAGE)
    return node.value


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise Failure(f"{file} is larger than {LARGEST_FILE_BYTES} bytes; name a client's config", USAGE)
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8; name a client's config", USAGE) from error
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}; name a file you may read", USAGE) from error


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
