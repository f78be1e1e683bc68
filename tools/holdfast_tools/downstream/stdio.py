"""A downstream that is a child process speaking MCP on its stdio.

The SDK's own stdio client buffers in quadratic time, notices a killed child only when the last holder of its stdout
is gone, hangs on bytes that are not UTF-8 and leaves stderr to others; hence this one.
"""

import errno
import logging
import math
import os
import shutil
import signal
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.client.stdio import get_default_environment
from mcp.shared.message import ClientMessageMetadata, SessionMessage

from holdfast_store.model.errors import DownstreamError
from holdfast_tools.downstream.child import Child
from holdfast_tools.downstream.lines import Flaw, LineSplitter, Overlong, parse
from holdfast_tools.downstream.link import Link
from holdfast_tools.downstream.spec import StdioSpec
from holdfast_tools.downstream.stderr import StderrTail
from holdfast_tools.sdk import MARK_HEADER

log = logging.getLogger("holdfast.downstream")

_SAMPLE_BYTES = 120


class StdioLink(Link):
    """The transport to one child process. Its death ends the link at once."""

    def __init__(self, name: str, spec: StdioSpec) -> None:
        super().__init__(name)
        self._spec = spec
        self._child = Child(self._read, self._read_stderr, self._silent)
        self._lines = LineSplitter()
        self._stderr = StderrTail(name, spec.env.values())
        self._flaws: set[Flaw] = set()
        self._incoming: MemoryObjectSendStream[SessionMessage | Exception] | None = None
        self._ending = False

    @property
    def reason(self) -> str:
        if self._reason is not None:
            return self._reason
        code = self._child.exit_code
        if code is None:
            return "its process closed its stdout"
        if code < 0:
            return f"its process was ended by {_signal_name(-code)}"
        return f"its process exited with code {code}"

    @property
    def stderr_tail(self) -> tuple[str, ...]:
        return self._stderr.lines

    @property
    def pid(self) -> int | None:
        return self._child.pid

    async def __aenter__(self) -> TransportStreams:
        env = get_default_environment() | dict(self._spec.env)
        self._incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](math.inf)
        try:
            await self._child.start((self._spec.command, *self._spec.args), env, self._spec.cwd)
        except (OSError, ValueError) as error:
            self._incoming.close()
            received.close()
            raise DownstreamError(_cannot_start(self._spec, error, env.get("PATH"))) from error
        return received, _Outgoing(self, self._child)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        await self._child.end()
        if self._incoming is not None:
            self._incoming.close()

    def _read(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._deliver(line)

    def _read_stderr(self, data: bytes) -> None:
        self._stderr.feed(data)

    def _silent(self) -> None:
        rest = self._lines.rest()
        if rest is not None:
            self._deliver(rest)
        self.over.set()
        if self._incoming is not None:
            self._incoming.close()

    def _deliver(self, line: bytes | Overlong) -> None:
        parsed = parse(line)
        if parsed.flaw is not None and not self._ending:
            self._warn(parsed.flaw, line)
        if parsed.message is not None and self._incoming is not None:
            try:
                self._incoming.send_nowait(SessionMessage(parsed.message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                log.debug("%s: a message came after the session had ended", self.name)
        elif parsed.flaw is Flaw.TOO_LONG:
            self.fail("it wrote a line to stdout that is longer than any answer may be, and names no request")

    def _warn(self, flaw: Flaw, line: bytes | Overlong) -> None:
        """Once per kind: a chatty server must not flood the log."""
        if flaw in self._flaws:
            return
        self._flaws.add(flaw)
        start = line.start if isinstance(line, Overlong) else line
        sample = start[:_SAMPLE_BYTES].decode(errors="replace") + ("…" if len(start) > _SAMPLE_BYTES else "")
        log.warning("%s %s (this is logged once): %r", self.name, flaw.value, sample)


class _Outgoing:
    """The SDK's write stream. A message is written whole or not at all."""

    def __init__(self, link: StdioLink, child: Child) -> None:
        self._link = link
        self._child = child
        self._closed = False

    async def send(self, item: SessionMessage, /) -> None:
        data = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        await self._child.writable()
        if self._closed:
            raise anyio.ClosedResourceError
        if not self._child.takes_input:
            raise anyio.BrokenResourceError
        headers = item.metadata.headers if isinstance(item.metadata, ClientMessageMetadata) else None
        exchange = self._link.exchanges.marked(headers.get(MARK_HEADER, "")) if headers else None
        if exchange is None or exchange.begin():
            self._child.write(data)

    async def aclose(self) -> None:
        self._closed = True

    async def __aenter__(self) -> "_Outgoing":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.aclose()
        return None


def _cannot_start(spec: StdioSpec, error: Exception, path: str | None) -> str:
    """Why the command does not start, and the mend."""
    command = spec.command
    if spec.cwd is not None and not os.path.isdir(spec.cwd):
        return f"its cwd {spec.cwd!r} is not a folder; create it, or change `cwd`"
    if isinstance(error, OSError):
        if error.errno == errno.ENOENT and shutil.which(command, path=path) is None:
            where = "there is no such file" if os.sep in command else "it is in none of the folders of PATH"
            return f"the command {command!r} was not found: {where}; install it, or give its full path as `command`"
        if error.errno == errno.ENOENT:
            return f"the command {command!r} cannot be run: its interpreter (the #! line) was not found; install that"
        if error.errno in (errno.EACCES, errno.ENOEXEC):
            return f"the command {command!r} cannot be run: {error.strerror}; make it an executable program"
    return f"the command {command!r} cannot be run: {error}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
