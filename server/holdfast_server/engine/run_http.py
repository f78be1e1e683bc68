"""An engine in the foreground, over HTTP: `holdfast serve CONFIG --http HOST:PORT`."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import uvicorn

from holdfast_server.config import Config
from holdfast_server.engine.engine import Engine
from holdfast_server.engine.run import run_engine
from holdfast_server.mcp.http import LOOPBACK, HttpTerms, build_app
from holdfast_store.model.errors import EngineError

log = logging.getLogger("holdfast.engine")

BACKLOG = 2048
"""Connections that may wait to be accepted: from before the address is announced, so that nobody comes too early."""

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: longer than clients keep theirs, so that none is closed as it is used."""


def serve_http(path: Path, host: str, port: int) -> int:
    """The engine in the foreground, over HTTP and the local socket. Takes over from a detached one."""

    async def serve(engine: Engine) -> None:
        await _serve_http(engine, host, port)

    return run_engine(path, "http", serve)


class _Uvicorn(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the engine has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve_http(engine: Engine, host: str, port: int) -> None:
    assembly = engine.assembly

    def too_open(config: Config) -> str | None:
        if config.principals or host in LOOPBACK:
            return None
        return f"without principals HTTP is served on loopback only, not on {host}"

    def terms() -> HttpTerms:
        return HttpTerms(bool(assembly.config.principals), assembly.config.max_arguments_bytes)

    refusal = too_open(assembly.config)
    if refusal is not None:
        raise EngineError(f"{refusal}; add `principals:` to {engine.path}, or serve on 127.0.0.1")
    engine.conditions.append(too_open)
    listening = _listen(host, port)
    app = build_app(
        assembly.agent,
        assembly.admin,
        assembly.people.tokens,
        host=host,
        terms=terms,
        is_ready=assembly.is_ready,
    )
    server = _Uvicorn(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_keep_alive=KEEP_ALIVE_S)
    )

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
