"""What `holdfast engine` and `holdfast doctor` do with the engine of a config."""

import os
import signal
import sys
import time
from pathlib import Path

from holdfast_server.cli.failures import FAILED, NO_ENGINE, OK, Exit, Failure
from holdfast_server.cli.output import fields, moment_words, print_json
from holdfast_server.cli.remote import ask, existing, token
from holdfast_server.config import load
from holdfast_server.engine.client import EngineInfo, connect, engine_alive
from holdfast_server.engine.hello import PROTOCOL
from holdfast_server.engine.lock import is_held, owner_of
from holdfast_server.engine.paths import state_paths
from holdfast_store.model.values import Json

POLL_S = 0.05
END_MARGIN_S = 20.0
FOLLOW_POLL_S = 0.25
CHUNK_BYTES = 65_536


def status_if_alive(config: Path) -> Json | None:
    """The payload of `engine_status`; None where no engine lives, and none is started."""
    return ask(config, "engine_status", {}, start=False) if engine_alive(config) is not None else None


def status(config: Path, as_json: bool) -> Exit:
    """Print how the engine is; FAILED where none is running."""
    found = status_if_alive(existing(config))
    if as_json:
        print_json({"running": found is not None, **(found or {})})
    elif found is None:
        print("no engine is running")
    else:
        print(_status_words(found))
    return FAILED if found is None else OK


def _status_words(found: Json) -> str:
    engine, store = found["engine"], found["store"]
    servers = [f"{server['name']}: {server['state']}" for server in found["downstreams"]]
    calls = [f"{count} {state}" for state, count in store["calls_by_state"].items() if count]
    return fields(
        (
            ("engine", f"process {engine['pid']}, {engine['mode']}, version {engine['version']}"),
            ("started", moment_words(engine["started_at"])),
            ("connections", str(engine["connections"])),
            ("config", engine["config"]),
            ("loaded", moment_words(engine.get("config_loaded_at"))),
            ("servers", "\n".join(servers)),
            ("tools", f"{len(found['tools'])}, {len(found['set_aside'])} set aside"),
            ("calls", ", ".join(calls) or "none"),
            ("warnings", "\n".join(found["warnings"])),
        )
    )


def stop(config: Path, drain_s: float, as_json: bool) -> None:
    """Drain and end the engine; returns when it is gone. Raises `Failure` where it does not end in time."""
    running = engine_alive(existing(config))
    if running is not None:
        _end(config, running, drain_s)
    if as_json:
        print_json({"was_running": running is not None, "pid": running.pid if running is not None else None})
    elif running is None:
        print("no engine is running")
    else:
        print("the engine has stopped; what waits, waits on in the store")


def restart(config: Path, drain_s: float, as_json: bool) -> None:
    """End the engine where one lives, and start one with the config and variables of now."""
    load(config, os.environ)
    if (running := engine_alive(config)) is not None:
        owner = owner_of(state_paths(config, os.environ).lock)
        if owner is not None and owner.mode != "detached":
            raise Failure(f"{owner.describe()}, runs in the foreground; stop it there, and start it again")
        _end(config, running, drain_s)
    with connect(config, token=token()) as client:
        engine = client.engine
    if as_json:
        print_json({"running": True, "pid": engine.pid, "version": engine.version})
    else:
        print(f"the engine is running as process {engine.pid}")


def _end(config: Path, engine: EngineInfo, drain_s: float) -> None:
    """Ask the engine to stop, and wait until it has let go of its lock. One of another protocol gets a signal."""
    lock = state_paths(config, os.environ).lock
    deadline = time.monotonic() + drain_s + END_MARGIN_S
    if engine.protocol == PROTOCOL:
        ask(config, "engine_stop", {"drain_s": drain_s}, start=False)
    else:
        os.kill(engine.pid, signal.SIGTERM)
    while is_held(lock):
        if time.monotonic() >= deadline:
            owner = owner_of(lock)
            who = f"process {owner.pid}" if owner else "the engine"
            raise Failure(
                f"{who} has not ended; see `holdfast engine logs {config}`, then end it by its pid", NO_ENGINE
            )
        time.sleep(POLL_S)


def logs(config: Path, lines: int, follow: bool, as_json: bool) -> None:
    """Print the last `lines` of what a detached engine wrote; with `follow`, go on until Ctrl-C."""
    log = state_paths(existing(config), os.environ).log
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        content = b""
        if not follow:
            raise Failure(
                f"there is no log {log} yet; it is written by an engine that runs in the background"
            ) from None
    tail = content.decode("utf-8", "replace").splitlines()[-lines:]
    if as_json and not follow:
        print_json({"log": str(log), "lines": tail})
        return
    print(*tail, sep="\n", end="\n" if tail else "", flush=True)
    if follow:
        _follow(log, len(content))


def _follow(log: Path, offset: int) -> None:
    """Print what is appended to `log`, also after it was replaced by a fresh one."""
    while True:
        try:
            with log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                offset = offset if size >= offset else 0
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    offset += len(chunk)
                    sys.stdout.write(chunk.decode("utf-8", "replace"))
        except FileNotFoundError:
            offset = 0
        sys.stdout.flush()
        time.sleep(FOLLOW_POLL_S)
