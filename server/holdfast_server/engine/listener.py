"""The engine's local socket: who connects says hello, is checked, and is handed on as a stream of lines.

Only processes of the engine's own user get in: the folder is 0700, the socket 0600, and the kernel names the peer.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from holdfast_server.engine.connection import peer_uid
from holdfast_server.engine.hello import GOODBYE, MAX_HELLO_BYTES, Answer, BadHello, Hello, read_hello
from holdfast_server.engine.lines import LineBuffer
from holdfast_server.engine.lock import OwnerLock
from holdfast_server.engine.paths import PRIVATE_FILE
from holdfast_store.model.errors import EngineError

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 5.0
CHUNK_BYTES = 262_144
BACKLOG = 512

OnConnection = Callable[[Hello, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class SocketListener:
    """Listens on `path` from `start` to `stop`. `lock` must be held: only its holder may remove a stale socket.

    For each connection `on_connection(hello, reader, writer)` runs in a task of its own. It answers the hello (with
    `Answer.line()`), serves, and returns when the connection is over; the listener closes the writer. What it raises is
    logged and ends that connection only. `version` is told to whoever is refused; `on_closed` is called after the end
    of each connection.

    Who comes while it stops, and has not been answered, is cut off without a word: they try again, and find the next
    engine.
    """

    def __init__(
        self,
        path: Path,
        lock: OwnerLock,
        on_connection: OnConnection,
        *,
        version: str,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._on_closed = on_closed
        self._lock = lock
        self._on_connection = on_connection
        self._version = version
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._served = 0
        self._stopping = False

    @property
    def connections(self) -> int:
        """How many connections have said a good hello and are still open."""
        return self._served

    @property
    def is_empty(self) -> bool:
        """Whether no connection is open, not even one that has said nothing yet."""
        return not self._tasks

    async def start(self) -> Self:
        """Listen. Raises `EngineError` where the socket cannot be made."""
        if not self._lock.held():
            raise RuntimeError(f"{self._lock.path} must be held before {self.path} is served")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.unlink(missing_ok=True)
            listening.bind(os.fspath(self.path))
            self.path.chmod(PRIVATE_FILE)
            listening.setblocking(False)
            self._server = await asyncio.start_unix_server(
                self._accepted, sock=listening, limit=MAX_HELLO_BYTES, backlog=BACKLOG
            )
        except OSError as error:
            listening.close()
            raise EngineError(f"cannot listen on {self.path}: {error.strerror or error}") from error
        return self

    def close(self) -> None:
        """Take no more connections; those that are open stay. The socket is gone: callers wait for the next engine."""
        if self._server is not None and not self._stopping:
            self._stopping = True
            self.path.unlink(missing_ok=True)
            self._server.close()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Take no more connections, give those that are open `grace_s` seconds to end, end the others with a goodbye.

        Returns when every connection is closed and the socket is gone. Harmless when it does not listen.
        """
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._on_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted = False
        try:
            hello = await self._hello(reader, writer)
            if hello is not None and not self._stopping:
                self._served += 1
                greeted = True
                try:
                    await self._on_connection(hello, reader, writer)
                finally:
                    self._served -= 1
        except ConnectionError:
            log.debug("a connection was cut")
        except Exception:
            log.exception("a connection ended by an error")
        finally:
            if self._stopping and greeted:
                writer.write(GOODBYE)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _hello(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Hello | None:
        """The caller's hello, or None where there is none worth serving; then the caller has been told why."""
        caller = peer_uid(writer.get_extra_info("socket"))
        if caller != os.geteuid():
            log.warning("refused a connection of user %d", caller)
            writer.write(self._refusal("this engine belongs to another user"))
            return None
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                line = await reader.readline()
        except TimeoutError:
            writer.write(self._refusal(f"no hello within {HELLO_TIMEOUT_S:g} s"))
            return None
        except ValueError:
            writer.write(self._refusal(f"a hello has at most {MAX_HELLO_BYTES} bytes"))
            return None
        if not line:
            return None
        try:
            return read_hello(line)
        except BadHello as error:
            writer.write(self._refusal(str(error)))
            return None

    def _refusal(self, reason: str) -> bytes:
        return Answer(os.getpid(), self._version, ok=False, error=reason).line()


async def read_lines(reader: asyncio.StreamReader, limit: int | None = None) -> AsyncIterator[bytes]:
    """The lines that arrive, each with its newline, in linear time. An unfinished last one is dropped.

    Of a line with more than `limit` bytes an `Overlong` comes. `StreamReader.readline` would end the connection there.
    """
    buffer = LineBuffer(limit)
    while chunk := await reader.read(CHUNK_BYTES):
        for line in buffer.feed(chunk):
            yield line
