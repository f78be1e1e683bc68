"""One running engine: locks, store, downstreams, scheduler and the local socket, from start to drained stop."""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from holdfast_server.config import Config, load
from holdfast_server.config.changes import needing_a_restart
from holdfast_server.config.problems import ConfigProblems, Problem
from holdfast_server.engine.admin_token import ensure_admin_token
from holdfast_server.engine.assembly import Assembly, assemble
from holdfast_server.engine.differences import CONFIG, Differences, config_warning, differences, version_warning
from holdfast_server.engine.hello import ADMIN, AGENT, Answer, Hello, config_digest
from holdfast_server.engine.listener import SocketListener, read_lines
from holdfast_server.engine.lock import Mode, Owner, OwnerLock
from holdfast_server.engine.paths import StatePaths
from holdfast_server.engine.quiet import Quiet
from holdfast_server.engine.status import engine_status
from holdfast_server.mcp.admin import EngineControl
from holdfast_server.mcp.caller import Caller
from holdfast_server.mcp.payloads import iso
from holdfast_server.mcp.stream import serve_stream
from holdfast_server.mcp.wire import longest_message
from holdfast_server.version import VERSION
from holdfast_store.contract import Recover, Store
from holdfast_store.model.errors import EngineError, HoldfastError, StoreError
from holdfast_store.model.values import LOCAL, Json, Principal
from holdfast_store.open import check_before_opening, make_folder, open_store, store_path

log = logging.getLogger("holdfast.engine")

DRAIN_S = 10.0
"""How long a stopping engine waits for what is under way, unless it is told otherwise."""


LAST_ANSWERS_S = 1.0
"""How long it then takes to hand out the answers; who waits for longer is told goodbye."""

RELEASE_S = 5.0
"""How long the store may take to write down what is left of the calls under way."""

NOBODY = ""
"""No engine's name: whose leases it does not hold are everybody's."""


Condition = Callable[[Config], str | None]
"""Why a listener could not serve by a config, as a clause; None where it could."""


class Engine(EngineControl):
    """What listeners share: the assembly, who may connect, how to reload and how to stop.

    `conditions` are what a reload must meet beside what the config's own checks ask.
    """

    def __init__(self, config: Config, paths: StatePaths, mode: Mode) -> None:
        self.path = config.path
        self.paths = paths
        self.mode = mode
        self.stopping = asyncio.Event()
        self.drained = asyncio.Event()
        self.drain_s = DRAIN_S
        self.listener: SocketListener | None = None
        self.quiet = Quiet()
        self._assembly: Assembly | None = None
        self._clients = 0
        self._outdated_by: set[str] = set()
        self.conditions: list[Condition] = []
        self._warnings: dict[str, None] = {}
        self._refusal: str | None = None
        self._reloading = asyncio.Lock()
        self._hello = _hello_of(config)

    @property
    def assembly(self) -> Assembly:
        """The parts; only inside `running_engine`."""
        if self._assembly is None:
            raise RuntimeError("the engine is not assembled")
        return self._assembly

    @assembly.setter
    def assembly(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def status(self) -> Json:
        connections = self.listener.connections if self.listener is not None else 0
        changed = [config_warning(self.path)] if await asyncio.to_thread(self._has_changed) else []
        refused = [] if self._refusal is None else [f"the last reload changed nothing: {self._refusal}"]
        return await engine_status(self.assembly, self.mode, connections, [*changed, *self._warnings, *refused])

    def _has_changed(self) -> bool:
        """Whether the config's bytes are others than those in force; False where they cannot be read."""
        try:
            return config_digest(self.path.read_bytes()) != self._hello.config_digest
        except OSError:
            return False

    async def reload(self) -> Json:
        """As `EngineControl.reload`; one at a time. Raises `EngineError` once the engine stops."""
        async with self._reloading:
            if self.stopping.is_set():
                raise EngineError("the engine is stopping; the next one starts with the config as it is then")
            try:
                config = await asyncio.to_thread(load, self.path, os.environ)
                self._check(config)
                found = await self.assembly.in_force.exchange(config, self.drain_s)
            except HoldfastError as error:
                self._refusal = str(error)
                log.error("the config is not reloaded: %s", error)
                raise
            self._hello, self._refusal = _hello_of(config), None
            self._outdated_by.discard(CONFIG)
            self.quiet.look()
        log.info("the config is reloaded: %s", found)
        return {**found.payload(), "loaded_at": iso(self.assembly.in_force.loaded_at), "warnings": config.warnings}

    def _check(self, config: Config) -> None:
        """Raise `ConfigProblems` where `config` cannot take the place of the one in force."""
        fixed = needing_a_restart(self.assembly.config, config)
        causes = [f"{name} is another than the engine started with" for name in fixed]
        causes += [cause for condition in self.conditions if (cause := condition(config)) is not None]
        if causes:
            mend = f"this needs a restart: holdfast engine restart {self.path}"
            raise ConfigProblems(self.path, [Problem(0, cause, mend) for cause in causes])

    def stop(self, drain_s: float) -> None:
        self.drain_s = drain_s
        self.stopping.set()
        if self.listener is not None:
            self.listener.close()
        if self._assembly is not None:
            self._assembly.subscriptions.close()

    @property
    def patience_s(self) -> float:
        """For how long nobody is connected and nothing can run before it ends; not at all once it is outdated."""
        return 0.0 if self._outdated_by else self.assembly.config.idle_exit_s

    @property
    def is_busy(self) -> bool:
        """Whether somebody is connected, or something is under way."""
        connected = self.listener is not None and not self.listener.is_empty
        return connected or self._reloading.locked() or self.is_at_work

    @property
    def is_at_work(self) -> bool:
        """Whether a call is under way, or a downstream owes an answer, be it to a call that is in doubt by now."""
        assembly = self.assembly
        return not (assembly.runner.is_idle and all(one.is_quiet for one in assembly.downstreams.values()))

    def admit(self, hello: Hello) -> tuple[Answer, Caller | None]:
        """Whether a connection is served, and as whom."""
        found = differences(self._hello, hello)
        if hello.endpoint == ADMIN:
            return self._admit_admin(hello, found)
        return self._admit_agent(hello, found)

    def _admit_admin(self, hello: Hello, found: Differences) -> tuple[Answer, Caller | None]:
        """A command takes the config as it finds it. For its version another engine starts, if it has the variables."""
        identify = partial(self.assembly.people.tokens.find, hello.token or "")
        principal = identify()
        if principal is None:
            return self._refused("the admin endpoint needs a valid token: set HOLDFAST_TOKEN, or be the engine's user")
        if not self.assembly.admin_tools.admits(principal):
            return self._refused(f"{principal.id} holds no approving role")
        if found.upgrades and not found.variables and self._may_make_way:
            return self._make_way(found)
        return self._served(identify, found)

    def _admit_agent(self, hello: Hello, found: Differences) -> tuple[Answer, Caller | None]:
        identify = self.identifying(hello.principal)
        if (found.outdated_by or found.variables) and self._may_make_way:
            return self._make_way(found)
        if identify() is None:
            known = ", ".join(sorted(self.assembly.people.configured)) or "none is configured"
            return self._refused(f"there is no principal {hello.principal!r} (known: {known})")
        if found.variables:
            names = ", ".join(found.variables)
            return self._refused(
                f"the engine was started with another value of {names}, and it has other clients or calls under way; "
                f"try again when it has none, or run `holdfast engine restart {self.path}`"
            )
        return self._served(identify, found)

    @property
    def _may_make_way(self) -> bool:
        """Whether another engine may take its place: it serves nobody, and what ends with it can be begun again."""
        busy = self._clients > 0 or self._reloading.locked() or self.is_at_work
        return self.mode == "detached" and not busy

    def _make_way(self, found: Differences) -> tuple[Answer, Caller | None]:
        told = {"config": found.config, "variables": list(found.variables), "version": found.version}
        log.info("making way for what a caller brings", extra=told)
        self.stop(self.drain_s)
        return Answer(os.getpid(), VERSION, ok=False, restart=True), None

    def identifying(self, principal_id: str | None) -> Callable[[], Principal | None]:
        """Who the principal of this id is, by the config of the moment; without an id, the local caller."""
        return lambda: LOCAL if principal_id is None else self.assembly.people.configured.get(principal_id)

    def _served(self, identify: Callable[[], Principal | None], found: Differences) -> tuple[Answer, Caller | None]:
        warnings = [config_warning(self.path)] if found.config else []
        if found.version is not None:
            other = version_warning(VERSION, found.version, self.path)
            self._warnings[other] = None
            warnings.append(other)
        self._outdated_by |= found.outdated_by
        return Answer(os.getpid(), VERSION, warning="\n".join(warnings) or None), Caller(identify)

    def _refused(self, reason: str) -> tuple[Answer, Caller | None]:
        return Answer(os.getpid(), VERSION, ok=False, error=reason), None

    async def on_connection(self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the local socket."""
        answer, caller = self.admit(hello)
        if caller is None:
            writer.write(answer.line())
            await writer.drain()
            return
        self._clients += 1
        try:
            writer.write(answer.line())
            await writer.drain()
            server = self.assembly.admin if hello.endpoint == ADMIN else self.assembly.agent
            lines = read_lines(reader, longest_message(self.assembly.config.max_arguments_bytes))
            await serve_stream(server, caller, lines, writer, self.drained)
        finally:
            self._clients -= 1


def _hello_of(config: Config) -> Hello:
    """The hello of a caller that sees what this engine goes by."""
    return Hello(AGENT, config.digest, config.variables, version=VERSION)


def store_lock_path(store_url: str) -> Path:
    """The lock beside a SQLite store: whoever holds it is the store's only engine."""
    return Path(f"{os.path.realpath(store_path(store_url))}.lock")


@asynccontextmanager
async def running_engine(config: Config, paths: StatePaths, mode: Mode, wait_s: float = 0.0) -> AsyncIterator[Engine]:
    """An engine that serves its socket inside the block, and drains when the block ends.

    `wait_s`: how long to wait for an earlier engine of this config to let go. Raises `EngineError` where another
    engine lives or the socket cannot be made, `StoreError` where the store cannot be opened.
    """
    make_folder(config.store_url)
    owner = Owner.this_process(config.path, mode)
    config_lock, store_lock = OwnerLock(paths.lock, owner), OwnerLock(store_lock_path(config.store_url), owner)
    config_lock.acquire(wait_s)
    try:
        store_lock.acquire(wait_s)
        try:
            async with _serving(config, paths, mode, config_lock) as engine:
                yield engine
        finally:
            store_lock.release()
    finally:
        config_lock.release()


@asynccontextmanager
async def _serving(config: Config, paths: StatePaths, mode: Mode, lock: OwnerLock) -> AsyncIterator[Engine]:
    engine = Engine(config, paths, mode)
    token = ensure_admin_token(paths.token)
    check_before_opening(config.store_url)
    store = await open_store(config.store_url, retention=config.retention)
    try:
        digest = hashlib.sha256(token.encode()).hexdigest()
        engine.assembly = assembly = await assemble(config, store, digest, engine)
        assembly.waiters.subscribe(lambda _: engine.quiet.stir())
        await assembly.scheduler.recover()
        async with anyio.create_task_group() as tasks:
            assembly.runner.attach(tasks)
            tasks.start_soon(assembly.downstreams.run, assembly.runner.part)
            tasks.start_soon(assembly.scheduler.run)
            tasks.start_soon(assembly.subscriptions.run)
            engine.listener = SocketListener(
                paths.socket, lock, engine.on_connection, version=VERSION, on_closed=engine.quiet.left
            )
            async with engine.listener:
                log.info("ready", extra={"config": str(config.path), "mode": mode, "pid": os.getpid()})
                yield engine
                with anyio.CancelScope(shield=True):
                    await _drain(engine)
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await _release(store)
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()
        log.info("stopped", extra={"config": str(config.path)})


async def _release(store: Store) -> None:
    """Nothing runs any more: what was sent and not answered is in doubt from now on, or queued for the next engine."""
    try:
        with anyio.fail_after(RELEASE_S):
            await store.commit((Recover(NOBODY, takeover=True),))
    except (StoreError, TimeoutError) as error:
        log.warning("leases are left to the next engine", extra={"error": str(error)})


async def _drain(engine: Engine) -> None:
    """Let nobody new in, let what is under way settle, then say goodbye to who is still connected."""
    if engine.listener is not None:
        engine.listener.close()
    if not await engine.assembly.runner.drain(engine.drain_s):
        log.warning("stopping with calls under way; what was sent and not answered will be in doubt")
    engine.drained.set()
    if engine.listener is not None:
        await engine.listener.stop(LAST_ANSWERS_S)
