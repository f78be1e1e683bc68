"""Ends what a dead Holdfast leaves behind. A program of its own; standard library only, and nothing of Holdfast.

    python -I -S reaper_program.py CLOSING_GRACE_S TERM_GRACE_S

Its stdin is a pipe whose other end only Holdfast's process holds, and tells of each child on a line:

    spawning TOKEN        a child is about to be started, with the variable HOLDFAST_CHILD=TOKEN
    running TOKEN GROUP   it is there, and leads this process group
    over TOKEN            nothing of it is left

When the pipe closes, however Holdfast ended, every group that is not over gets CLOSING_GRACE_S seconds to leave (the
stdin of its leader has just closed too), then SIGTERM, and TERM_GRACE_S seconds later SIGKILL. A child that was being
started at that very moment is found by its token, where there is a `/proc`; elsewhere the end of its stdin has to do.
"""

import os
import signal
import sys
import time

POLL_S = 0.05
PROC = "/proc"


def main(closing_grace_s: float, term_grace_s: float) -> None:
    """Listen until the pipe closes; then return when every group is gone, or was sent SIGKILL."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    children: dict[str, int | None] = {}
    for line in sys.stdin.buffer:
        verb, token, *group = line.decode().split()
        if verb == "over":
            children.pop(token, None)
        else:
            children[token] = int(group[0]) if group else None
    for grace_s, number in ((closing_grace_s, signal.SIGTERM), (term_grace_s, signal.SIGKILL)):
        for group in left_after(grace_s, children):
            send(group, number)


def left_after(grace_s: float, children: dict[str, int | None]) -> set[int]:
    """The groups that are still there after so many seconds: none as soon as that is so."""
    deadline = time.monotonic() + grace_s
    while True:
        find_unnamed(children)
        left = {group for group in children.values() if group is not None and send(group, 0)}
        unnamed = None in children.values()
        if (not left and not unnamed) or time.monotonic() >= deadline:
            return left
        time.sleep(POLL_S)


def find_unnamed(children: dict[str, int | None]) -> None:
    """Fill in the groups of children that were being started, as far as they can be seen."""
    tokens = {f"HOLDFAST_CHILD={token}".encode(): token for token, group in children.items() if group is None}
    if not tokens or not os.path.isdir(PROC):
        return
    for name in os.listdir(PROC):
        try:
            if not name.isdigit() or os.getpgid(int(name)) != int(name):
                continue
            with open(f"{PROC}/{name}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            if variable in tokens:
                children[tokens[variable]] = int(name)


def send(group: int, number: int) -> bool:
    """Signal a process group; False where nothing is left of it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
