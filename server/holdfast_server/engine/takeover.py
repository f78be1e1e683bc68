"""An engine in the foreground takes the place of a detached one of its own config."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from holdfast_server.engine.client import connect, engine_alive
from holdfast_server.engine.hello import PROTOCOL
from holdfast_server.engine.lock import is_held, owner_of
from holdfast_server.engine.paths import StatePaths
from holdfast_store.model.errors import EngineError

DRAIN_S = 10.0
MARGIN_S = 5.0


def take_over(
    config: Path, paths: StatePaths, *, drain_s: float = DRAIN_S, environ: Mapping[str, str] | None = None
) -> float:
    """Ask a detached engine of `config` to drain for `drain_s` seconds and stop.

    Returns how long, in seconds, to wait for its locks; 0 where there was none. Its shims, told goodbye, find the new
    engine when their clients ask again. Raises `EngineError` where the engine there is not a detached one, or cannot
    be asked.
    """
    if not is_held(paths.lock):
        return 0.0
    owner = owner_of(paths.lock)
    if owner is not None and owner.mode != "detached":
        raise EngineError(f"{owner.describe()} is running already: stop it first")
    environment = os.environ if environ is None else environ
    # Alive, it is asked; else it is stopping already, or about to listen, and the wait for its lock settles which.
    engine = engine_alive(config, environment)
    if engine is not None and engine.protocol != PROTOCOL:
        os.kill(engine.pid, signal.SIGTERM)
    elif engine is not None:
        with connect(config, start=False, environ=environment) as client:
            client.call_tool("engine_stop", {"drain_s": drain_s})
    return drain_s + MARGIN_S
