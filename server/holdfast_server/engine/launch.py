"""Starts a command and stands between it and whoever wanted it, until they let go. Standard library only.

The engine would else be a child of the client's own child, and clients that end a whole tree of processes would end it
too. This process is the parent instead: when its stdin closes it exits, and the engine belongs to nobody but init.
When the command exits first, so does this, with the same code (128 + n for signal n). A byte on stdin ends the command.

    python -m holdfast_server.engine.launch COMMAND [ARGUMENT ...]
"""

import os
import select
import subprocess
import sys
from collections.abc import Sequence

POLL_MS = 10
END_TIMEOUT_S = 5.0


def main(command: Sequence[str]) -> int:
    """Run `command` until it exits or stdin closes; its exit code, or 0."""
    engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    wanted = select.poll()
    wanted.register(0, select.POLLIN | select.POLLHUP)
    while True:
        code = engine.poll()
        if code is not None:
            return code if code >= 0 else 128 - code
        if wanted.poll(POLL_MS):
            if os.read(0, 1):
                _end(engine)
            return 0


def _end(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        engine.kill()


if __name__ == "__main__":
    # No clean-up at exit: it would warn that the engine is still running, which is the point.
    os._exit(main(sys.argv[1:]))
