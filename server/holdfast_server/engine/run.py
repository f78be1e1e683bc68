"""The ways to run an engine: detached behind shims, or on this process's own stdio. `run_http` has the third.

Each answers with an exit code: 0 after a graceful stop, 1 for what went wrong, 2 for a config or a store that
trying again does not mend. A second signal ends the process by that signal: 143 or 130, as shells count.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import anyio

from holdfast_observe import logs
from holdfast_server.config import Config, load
from holdfast_server.engine.engine import Engine, running_engine
from holdfast_server.engine.idle import stop_when_idle
from holdfast_server.engine.listener import read_lines
from holdfast_server.engine.lock import Mode
from holdfast_server.engine.paths import StatePaths, prepare
from holdfast_server.engine.signals import reload_signal, stop_signals
from holdfast_server.engine.takeover import take_over
from holdfast_server.mcp.caller import Caller
from holdfast_server.mcp.stream import serve_stream
from holdfast_server.mcp.wire import longest_message
from holdfast_store.model.errors import ConfigError, EngineError, HoldfastError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

Serve = Callable[[Engine], Awaitable[None]]


def main_detached(path: Path) -> int:
    """The engine behind shims: serves the local socket until it is told to stop, or nobody needs it any more."""

    async def wait(engine: Engine) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when_idle, engine)
            await engine.stopping.wait()
            tasks.cancel_scope.cancel()

    return run_engine(path, "detached", wait)


def serve_in_process(path: Path, principal_id: str | None) -> int:
    """The engine on this process's stdio alone, for containers: it ends when the client closes its side."""

    async def serve(engine: Engine) -> None:
        await _serve_stdio(engine, principal_id)

    return run_engine(path, "in-process", serve)


def run_engine(path: Path, mode: Mode, serve: Serve) -> int:
    """Run an engine of the config at `path` for as long as `serve` lasts; the exit code."""
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
    print(f"error: {error}", file=sys.stderr)
    return REFUSED if isinstance(error, ConfigError | EngineError) else FAILED


async def _engine(config: Config, paths: StatePaths, mode: Mode, serve: Serve) -> None:
    wait_s = 0.0
    if mode == "http":
        wait_s = await asyncio.to_thread(take_over, config.path, paths)
    with reload_signal() as hung_up, ExitStack() as until_stopped:
        async with running_engine(config, paths, mode, wait_s) as engine:
            signalled = until_stopped.enter_context(stop_signals())
            async with anyio.create_task_group() as tasks:

                async def stop_on_signal() -> None:
                    await signalled.wait()
                    engine.stop(engine.drain_s)

                tasks.start_soon(stop_on_signal)
                tasks.start_soon(_reload_on_signal, engine, hung_up)
                await serve(engine)
                tasks.cancel_scope.cancel()


async def _reload_on_signal(engine: Engine, hung_up: asyncio.Event) -> None:
    """However many signals come while one reload runs, one more follows."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        with suppress(HoldfastError):  # it is logged, and `holdfast doctor` shows it
            await engine.reload()


async def _serve_stdio(engine: Engine, principal_id: str | None) -> None:
    identify = engine.identifying(principal_id)
    if identify() is None:
        raise EngineError(f"there is no principal {principal_id!r} in {engine.path}")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    # asyncio closes what it is given; this process goes on to flush its own.
    stdin = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def stop_when_asked() -> None:
        await engine.stopping.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when_asked)
        lines: AsyncIterator[bytes] = read_lines(reader, longest_message(engine.assembly.config.max_arguments_bytes))
        await serve_stream(engine.assembly.agent, Caller(identify), lines, writer)
        tasks.cancel_scope.cancel()
