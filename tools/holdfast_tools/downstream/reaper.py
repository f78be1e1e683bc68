"""The process that outlives this one for a moment, to end the children that it leaves behind.

Nothing in a process that is killed can end its children, and what the kernel offers is bound to a thread, unknown to
grandchildren, and not the same everywhere. A pipe closes on every death: see `reaper_program`, which holds its end.
"""

import logging
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("holdfast.downstream")

VARIABLE = "HOLDFAST_CHILD"
"""Set in the environment of each child, to the token that `Reaper.spawning` gave."""

PROGRAM = Path(__file__).with_name("reaper_program.py")


class Reaper:
    """Tells a reaper process of every child. It is started with the first one, and again should it die.

    `closing_grace_s` and `term_grace_s`: how long a child's group has to leave once its stdin is closed, and once it
    got SIGTERM. Not for several threads.
    """

    def __init__(self, closing_grace_s: float, term_grace_s: float) -> None:
        self._graces = (str(closing_grace_s), str(term_grace_s))
        self._process: subprocess.Popen[bytes] | None = None
        self._children: dict[str, int | None] = {}

    @property
    def pid(self) -> int | None:
        """The reaper process, where one was started."""
        return self._process.pid if self._process is not None else None

    def spawning(self) -> str:
        """A child is about to be started: the token for its environment."""
        token = secrets.token_hex(8)
        self._children[token] = None
        self._tell(f"spawning {token}")
        return token

    def running(self, token: str, group: int) -> None:
        """It is there, and leads the process group `group`."""
        self._children[token] = group
        self._tell(f"running {token} {group}")

    def over(self, token: str) -> None:
        """Nothing of it is left, or it was never started."""
        if token in self._children:
            del self._children[token]
            self._tell(f"over {token}")

    def _tell(self, line: str) -> None:
        """Write a line; to a new reaper, all that the last one had been told, where that is dead or takes nothing."""
        if self._process is not None and self._process.poll() is None and _write(self._process, line):
            return
        self._dismiss()
        try:
            # In a session of its own: what ends a terminal's processes, or a client's, must not end this one.
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", PROGRAM, *self._graces),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.error("children will outlive a killed Holdfast: their reaper cannot be started: %s", error)
            return
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
        for token, group in self._children.items():
            _write(self._process, f"spawning {token}" if group is None else f"running {token} {group}")

    def _dismiss(self) -> None:
        """Let go of a reaper that is of no use any more, without letting it end anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


def _write(process: subprocess.Popen[bytes], line: str) -> bool:
    """Whether the line went out. So short a write to a pipe is all or nothing."""
    if process.stdin is not None:
        with suppress(BrokenPipeError, BlockingIOError):
            return bool(os.write(process.stdin.fileno(), line.encode() + b"\n"))
    return False
