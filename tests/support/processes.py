"""Real processes in tests: started, waited for with a deadline, and ended, every one of them and no other."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.01
END_TIMEOUT_S = 5.0


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll `condition` until it holds. Raises `TimeoutError` naming `what` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Whether `pid` runs: a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def end(pid: int, timeout_s: float = END_TIMEOUT_S) -> None:
    """Ask `pid` to stop, then make it; returns when it is gone."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, ending)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not alive(pid), timeout_s, f"the end of process {pid}")
            return
    raise TimeoutError(f"process {pid} outlived SIGKILL")


def with_environment(name: str, value: str) -> list[int]:
    """The processes, this one aside, that were started with `name` set to `value`: how detached ones are found."""
    wanted = f"{name}={value}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


class Running:
    """One started process. What it prints goes to files, so that it never blocks on a pipe nobody reads."""

    def __init__(self, popen: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self._popen = popen
        self._stdout = stdout
        self._stderr = stderr

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""
        return self._popen.wait(timeout_s)

    def exited(self) -> bool:
        return self._popen.poll() is not None

    def wait_for(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The first match of `pattern` in stdout or stderr. Raises `TimeoutError` with both, also when it exits."""
        deadline = time.monotonic() + timeout_s
        while True:
            exited = self.exited()
            for text in (self.stdout, self.stderr):
                if match := re.search(pattern, text):
                    return match
            if exited or time.monotonic() > deadline:
                how = f"it exited with {self._popen.returncode}" if exited else f"{timeout_s} s passed"
                raise TimeoutError(f"no {pattern!r}: {how}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        self._popen.kill()
        self._popen.wait(END_TIMEOUT_S)

    def end(self) -> None:
        """SIGTERM, after a while SIGKILL, and reap it. Harmless when it has exited."""
        if self.exited():
            return
        self._popen.terminate()
        try:
            self._popen.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Processes:
    """Starts processes and ends them all, in reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Running] = []

    def start(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Running:
        """Start `command` with `environment` (this process's own where None), stdin from the null device."""
        number = len(self._running)
        stdout, stderr = self._folder / f"process-{number}.out", self._folder / f"process-{number}.err"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=None if environment is None else dict(environment),
                cwd=cwd,
            )
        self._running.append(Running(popen, stdout, stderr))
        return self._running[-1]

    def end_all(self) -> None:
        for running in reversed(self._running):
            running.end()
