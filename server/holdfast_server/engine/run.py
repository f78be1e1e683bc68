"""The ways to run an engine: detached behind shims, in the foreground over HTTP, or on this process's own stdio.

Each answers with an exit code: 0 after a graceful stop, 1 for what went wrong, 2 for a config or a store that
trying again does not mend.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import uvicorn

from holdfast_observe import logs
from holdfast_server.config import Config, load
from holdfast_server.engine.engine import Engine, running_engine
from holdfast_server.engine.listener import read_lines
from holdfast_server.engine.lock import Mode
from holdfast_server.engine.paths import StatePaths, prepare
from holdfast_server.engine.signals import stop_signals
from holdfast_server.engine.takeover import take_over
from holdfast_server.mcp.caller import Caller
from holdfast_server.mcp.http import LOOPBACK, build_app
from holdfast_server.mcp.stream import serve_stream
from holdfast_store.model.errors import ConfigError, EngineError, HoldfastError
from holdfast_store.model.values import LOCAL, Principal

log = logging.getLogger("holdfast.engine")

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

BACKLOG = 2048
"""Connections that may wait to be accepted: from before the address is announced, so that nobody comes too early."""

Serve = Callable[[Engine], Awaitable[None]]


def main_detached(path: Path) -> int:
    """The engine behind shims: serves the local socket until it is told to stop."""

    async def wait(engine: Engine) -> None:
        await engine.stopping.wait()

    return _run(path, "detached", wait)


def serve_http(path: Path, host: str, port: int) -> int:
    """The engine in the foreground, over HTTP and the local socket. Takes over from a detached one."""

    async def serve(engine: Engine) -> None:
        await _serve_http(engine, host, port)

    return _run(path, "http", serve)


def serve_in_process(path: Path, principal_id: str | None) -> int:
    """The engine on this process's stdio alone, for containers: it ends when the client closes its side."""

    async def serve(engine: Engine) -> None:
        await _serve_stdio(engine, principal_id)

    return _run(path, "in-process", serve)


def _run(path: Path, mode: Mode, serve: Serve) -> int:
    logs.configure(os.environ.get("HOLDFAST_LOG", "info"))
    try:
        config = load(path, os.environ)
        paths = prepare(path, os.environ)
        asyncio.run(_engine(config, paths, mode, serve))
    except (HoldfastError, BaseExceptionGroup) as error:
        return _report(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _report(error: BaseException) -> int:
    """Say what went wrong in a sentence, and whether trying again can help. Re-raises what is not Holdfast's own."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, HoldfastError):
        raise error
    print(error if isinstance(error, ConfigError) else f"error: {error}", file=sys.stderr)
    return REFUSED if isinstance(error, ConfigError | EngineError) else FAILED


async def _engine(config: Config, paths: StatePaths, mode: Mode, serve: Serve) -> None:
    wait_s = 0.0
    if mode == "http":
        wait_s = await asyncio.to_thread(take_over, config.path, paths)
    async with running_engine(config, paths, mode, wait_s) as engine:
        with stop_signals() as signalled:
            async with anyio.create_task_group() as tasks:

                async def stop_on_signal() -> None:
                    await signalled.wait()
                    engine.stop(engine.drain_s)

                tasks.start_soon(stop_on_signal)
                await serve(engine)
                tasks.cancel_scope.cancel()


# --- HTTP -------------------------------------------------------------------------------------------------------


class _Uvicorn(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the engine has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve_http(engine: Engine, host: str, port: int) -> None:
    assembly = engine.assembly
    principals_known = bool(engine.config.principals)
    if not principals_known and host not in LOOPBACK:
        raise EngineError(
            f"without principals HTTP is served on loopback only, not on {host}; add `principals:` to "
            f"{engine.config.path}, or serve on 127.0.0.1"
        )
    listening = _listen(host, port)
    app = build_app(
        assembly.agent,
        assembly.admin,
        assembly.tokens,
        agents_need_a_token=principals_known,
        host=host,
        max_arguments_bytes=engine.config.max_arguments_bytes,
        is_ready=assembly.is_ready,
    )
    server = _Uvicorn(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))

    async def stop_when_asked() -> None:
        await engine.stopping.wait()
        server.should_exit = True
        with anyio.move_on_after(engine.drain_s):
            await anyio.sleep_forever()
        server.force_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when_asked)
        bound = listening.getsockname()
        log.info("serving", extra={"url": f"http://{_in_url(bound[0])}:{bound[1]}/mcp"})
        await server.serve(sockets=[listening])
        engine.stop(engine.drain_s)
        tasks.cancel_scope.cancel()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: else every answer waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise EngineError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port") from error
    listening.set_inheritable(False)
    return listening


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# --- stdio ------------------------------------------------------------------------------------------------------


async def _serve_stdio(engine: Engine, principal_id: str | None) -> None:
    principal: Principal | None = LOCAL if principal_id is None else engine.assembly.principals.get(principal_id)
    if principal is None:
        raise EngineError(f"there is no principal {principal_id!r} in {engine.config.path}")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def stop_when_asked() -> None:
        await engine.stopping.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when_asked)
        lines: AsyncIterator[bytes] = read_lines(reader)
        await serve_stream(engine.assembly.agent, Caller(principal), lines, writer)
        tasks.cancel_scope.cancel()
