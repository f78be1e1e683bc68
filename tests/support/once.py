"""What tests install for themselves below `build`: once per lock, however many tests ask for it at the same time."""

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"
INSTALL_S = 600.0


class InstallError(Exception):
    """Something cannot be installed; says what to do."""


def installed_once(name: str, pins: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """The folder `name` in `build` as `install` left it for these `pins`, which are files such as a lock.

    It installs where the pins changed, or where that was not finished; whoever comes second waits for the first.
    Raises what `install` raises.
    """
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "lock"):
        stamp, wanted = folder / "installed", hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()
        if not (stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            install(folder)
            stamp.write_text(wanted)
    return folder


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold `lock` against other processes; the kernel lets go of it when this one dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_installer(command: Sequence[str | Path], folder: Path) -> None:
    """Run an installer's `command` in `folder` to its end. Raises `InstallError` with what it printed."""
    tool = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{tool} had not installed {folder.name} after {INSTALL_S:.0f} s; try again") from error
    if done.returncode != 0:
        raise InstallError(f"{tool} could not install {folder.name}:\n{done.stdout}{done.stderr}")
