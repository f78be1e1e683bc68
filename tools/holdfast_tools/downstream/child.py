"""A child process in a process group of its own: its pipes, its death, and its end with all that it started.

When this process dies before it has made that end, its reaper does.
"""

import array
import asyncio
import fcntl
import os
import signal
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from holdfast_tools.downstream.reaper import VARIABLE, Reaper

CLOSING_GRACE_S = 2.0
"""How long a child may take to leave by itself once its stdin is closed."""
TERM_GRACE_S = 2.0
KILL_GRACE_S = 2.0
EXIT_NOTICE_S = 0.2
"""How long a child whose stdout closed may take to be noticed as dead, so that it can be said how it died."""
_POLL_S = 0.02
_LATE_BYTES = 4 * 1024 * 1024
"""How much may still be read after the child's death: more is written by somebody else who holds the pipe."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2

REAPER = Reaper(CLOSING_GRACE_S, TERM_GRACE_S)
"""One for all children of this process."""


class Child(asyncio.SubprocessProtocol):
    """One child process. `on_stdout` and `on_stderr` take bytes as they come, `on_silence` the end of stdout.

    Stdout is over when it is closed, or when the child has died and what it wrote has been read: a grandchild that
    holds the pipe open keeps nobody waiting.
    """

    def __init__(
        self, on_stdout: Callable[[bytes], None], on_stderr: Callable[[bytes], None], on_silence: Callable[[], None]
    ) -> None:
        self._on_output = {_STDOUT: on_stdout, _STDERR: on_stderr}
        self._on_silence = on_silence
        self._transport: asyncio.SubprocessTransport | None = None
        self._token: str | None = None
        self._silent = False
        self._lost_pipes: set[int] = set()
        self._terminated = False
        self._late_bytes = 0
        self._quiet_turns = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._exited = asyncio.Event()
        self._released = asyncio.Event()

    async def start(self, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        """Spawn it. Raises OSError and ValueError as `subprocess.Popen` does."""
        token = self._token = REAPER.spawning()
        variables = {**env, VARIABLE: token}
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self, *command, env=variables, cwd=cwd, start_new_session=True
            )
        except BaseException:  # of a cancelled start nobody makes an end either
            self._signal_group(signal.SIGKILL)
            REAPER.over(token)
            raise

    @property
    def pid(self) -> int | None:
        return self._transport.get_pid() if self._transport is not None else None

    @property
    def exit_code(self) -> int | None:
        """With which code it left by itself, negative for a signal; None while it runs, and where `end` ended it."""
        if self._transport is None or self._terminated:
            return None
        return self._transport.get_returncode()

    @property
    def takes_input(self) -> bool:
        """Whether anything written can still be read by anybody."""
        return not (self._silent or _STDIN in self._lost_pipes or self._exited.is_set())

    async def writable(self) -> None:
        """Wait until the pipe to its stdin has room, or is no more."""
        await self._writable.wait()

    def write(self, data: bytes) -> None:
        """Write to its stdin: all of it, in one piece, even if nobody waits for that."""
        pipe = self._pipe(_STDIN)
        if not isinstance(pipe, asyncio.WriteTransport):
            raise BrokenPipeError("the child was not started")
        pipe.write(data)

    async def end(self) -> None:
        """Close its stdin, then make an end of it and of all in its process group. Bounded, and not to be cancelled."""
        if self._transport is None:
            return
        with anyio.CancelScope(shield=True):
            self._close(_STDIN)
            with anyio.move_on_after(CLOSING_GRACE_S):
                await self._exited.wait()
            self._terminated = not self._exited.is_set()
            await self._end_group()
            with anyio.move_on_after(KILL_GRACE_S):
                await self._exited.wait()
            for pipe in (_STDIN, _STDOUT, _STDERR):
                self._abort(pipe)
            with suppress(PermissionError):
                self._transport.close()
            with anyio.move_on_after(KILL_GRACE_S):
                await self._released.wait()
            if self._token is not None:
                REAPER.over(self._token)

    # --- asyncio.SubprocessProtocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.SubprocessTransport):
            self._transport = transport
            if self._token is not None:
                REAPER.running(self._token, transport.get_pid())

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._quiet_turns = 0
        if fd == _STDERR or not self._silent:
            self._on_output[fd](data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._lost_pipes.add(fd)
        if fd == _STDOUT:
            asyncio.get_running_loop().call_later(EXIT_NOTICE_S, self._fall_silent)
        elif fd == _STDIN:
            self._writable.set()

    def process_exited(self) -> None:
        self._writable.set()
        self._late_bytes = self._unread() + _LATE_BYTES
        self._read_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fall_silent()
        self._exited.set()
        self._released.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- the end ----------------------------------------------------------------------------------------------

    def _read_the_rest(self) -> None:
        """Let the loop read until both pipes have been empty for two of its turns: a turn may hold bytes in hand."""
        unread = self._unread()
        self._late_bytes -= unread
        self._quiet_turns = self._quiet_turns + 1 if unread == 0 else 0
        if self._quiet_turns > 2 or self._late_bytes < 0:
            self._fall_silent()
            self._exited.set()
        else:
            asyncio.get_running_loop().call_soon(self._read_the_rest)

    def _unread(self) -> int:
        """How many bytes wait in the pipes from its stdout and stderr."""
        total = 0
        for fd in (_STDOUT, _STDERR):
            pipe = self._pipe(fd)
            handle = pipe.get_extra_info("pipe") if isinstance(pipe, asyncio.ReadTransport) else None
            if handle is not None and not handle.closed:
                waiting = array.array("i", [0])
                fcntl.ioctl(handle.fileno(), termios.FIONREAD, waiting)
                total += waiting[0]
        return total

    def _fall_silent(self) -> None:
        if not self._silent:
            self._silent = True
            self._writable.set()
            self._on_silence()

    async def _end_group(self) -> None:
        for signal_number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
            if not self._signal_group(signal_number):
                return
            with anyio.move_on_after(grace_s):
                while self._signal_group(0):  # noqa: ASYNC110 - nothing tells when a process group is empty
                    await anyio.sleep(_POLL_S)
                return

    def _signal_group(self, signal_number: int) -> bool:
        """Signal everything in the child's process group; False where nothing is left of it."""
        if self.pid is None:
            return False
        try:
            os.killpg(self.pid, signal_number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        """The transport of one of its pipes, as long as it is open."""
        if self._transport is None or fd in self._lost_pipes:
            return None
        return self._transport.get_pipe_transport(fd)

    def _close(self, fd: int) -> None:
        pipe = self._pipe(fd)
        if pipe is not None:
            pipe.close()

    def _abort(self, fd: int) -> None:
        pipe = self._pipe(fd)
        if isinstance(pipe, asyncio.WriteTransport):
            pipe.abort()
        elif pipe is not None:
            pipe.close()
