"""What the demo plays on: a temporary folder with a git repository, a ledger and a config, and a checked narration."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CONNECTION_CLOSED, CallToolResult, RequestParamsMeta, TextContent

from holdfast_server.engine.client import connect
from holdfast_server.engine.lock import owner_of
from holdfast_server.engine.paths import state_paths
from holdfast_store.model.errors import HoldfastError

BIN = Path(sys.executable).parent
EXAMPLES = Path(__file__).resolve().parent

DEADLINE_S = 20.0
SLOW_S = 3.0

CONFIG = """\
mcpServers:
  git:
    command: {git_server}
    args: [--repository, {repository}]
  payments:
    command: {python}
    args: [{payments_server}, {ledger}, --slow-s, "{slow_s}"]

rules:
  - id: commits-need-a-person
    match: {{tool: git__git_commit}}
    effect: require_approval
    reason: A person looks at every commit
  - id: small-refunds
    match: {{tool: payments__refund}}
    when: args.amount <= 100.0
    effect: allow
"""


class DemoError(Exception):
    """A line of the story is not so."""


class Story:
    """Prints each line with its mark once it was checked, and remembers the calls that took part."""

    def __init__(self) -> None:
        self.calls: dict[str, str] = {}
        self._began = time.monotonic()

    def chapter(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def check(self, holds: bool, line: str, shown: object = "") -> None:
        """Print `line` as true, with `shown` below it; raises `DemoError` where it does not hold."""
        mark = "\N{CHECK MARK}" if holds else "\N{BALLOT X}"
        print(f"  {mark} {line}", flush=True)
        for text in str(shown).splitlines():
            print(textwrap.fill(text, 110, initial_indent="      | ", subsequent_indent="      |   "), flush=True)
        if not holds:
            raise DemoError(line)

    def remember(self, title: str, call_id: str) -> None:
        """The timeline of this call is shown at the end."""
        self.calls[call_id] = title

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began


class Stage:
    """The folder, and what can be done in it. Everything that runs here is ended with it."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self.ledger = folder / "ledger.jsonl"
        self.config = folder / "holdfast.yaml"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {**kept, "XDG_STATE_HOME": str(folder / "state")}

    # --- what is there ----------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """A repository with one staged change, and the config."""
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("config", "user.name", "Demo")
        self.git("config", "user.email", "demo@example.org")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Begin")
        (self.repository / "notes.txt").write_text("Pay the invoice.\n")
        self.git("add", "notes.txt")
        values = {
            "git_server": BIN / "mcp-server-git",
            "repository": self.repository,
            "python": sys.executable,
            "payments_server": EXAMPLES / "payments" / "server.py",
            "ledger": self.ledger,
        }
        quoted = {name: json.dumps(str(value)) for name, value in values.items()}
        self.config.write_text(CONFIG.format(**quoted, slow_s=SLOW_S))

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.repository, check=True, capture_output=True, text=True, timeout=DEADLINE_S
        )
        return done.stdout

    def commits(self, subject: str) -> int:
        """How often a commit of this subject stands in the log."""
        return self.git("log", "--format=%s").splitlines().count(subject)

    def movements(self, payment_id: str, line: str = "done") -> int:
        """How many `line` lines the ledger has for a payment."""
        if not self.ledger.exists():
            return 0
        entries = [json.loads(text) for text in self.ledger.read_text().splitlines()]
        return sum(entry["line"] == line and entry["arguments"]["payment_id"] == payment_id for entry in entries)

    # --- who acts ---------------------------------------------------------------------------------------------

    def agent(self) -> Client:
        """An agent's client on stdio: what Claude Desktop starts from its config."""
        server = StdioServerParameters(
            command=str(BIN / "holdfast"), args=["serve", str(self.config)], env=self.environment
        )
        return Client(server, read_timeout_seconds=DEADLINE_S)

    async def admin(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call an admin tool with the operator's token. Raises `DemoError` where it is refused."""

        def ask() -> dict[str, Any]:
            with connect(self.config, environ=self.environment) as client:
                return client.call_tool(tool, arguments)

        try:
            return await anyio.to_thread.run_sync(ask)
        except HoldfastError as error:
            raise DemoError(f"{tool}: {error}") from error

    def command(self, *arguments: str) -> str:
        """What `holdfast ...` prints. Raises `DemoError` with its stderr where it fails."""
        done = subprocess.run(
            [str(BIN / "holdfast"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"holdfast {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    # --- the engine -------------------------------------------------------------------------------------------

    def engine_pid(self) -> int | None:
        """The engine that lives on this stage, if one does."""
        owner = owner_of(state_paths(self.config, self.environment).lock)
        return owner.pid if owner is not None and is_alive(owner.pid) else None

    def kill_engine(self) -> int:
        """`kill -9`, as a power cut would; returns the pid that was."""
        pid = self.engine_pid()
        if pid is None:
            raise DemoError("there is no engine to kill")
        os.kill(pid, signal.SIGKILL)
        return pid

    def engine_log(self) -> str:
        log = state_paths(self.config, self.environment).log
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""

    def end_engine(self) -> None:
        """Stop the engine in good order, or by force where it does not listen."""
        pid = self.engine_pid()
        if pid is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, ending)
            deadline = time.monotonic() + DEADLINE_S / 2
            while is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage of one's own, cleared on the way out, also after Ctrl-C."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    place = Stage(folder)
    try:
        place.set_up()
        yield place
    finally:
        place.end_engine()
        shutil.rmtree(folder)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`. Raises `DemoError` naming `what` after 20 s."""

    def poll() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {DEADLINE_S:g} s")
            time.sleep(0.01)

    await anyio.to_thread.run_sync(poll, abandon_on_cancel=True)


async def ask_again_when_cut(agent: Client, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    """Ask once more where the engine went away with the question: it is never sent twice behind the client's back."""
    try:
        return await agent.call_tool(tool, arguments)
    except MCPError as error:
        if error.code != CONNECTION_CLOSED:
            raise
        return await agent.call_tool(tool, arguments)


def words(answer: CallToolResult) -> str:
    """What the model reads."""
    return "\n".join(block.text for block in answer.content if isinstance(block, TextContent))


def about(answer: CallToolResult) -> dict[str, Any]:
    """What every answer says of its call: id, status, attempts, replayed, joined, rules."""
    return dict((answer.meta or {}).get("dev.holdfast/call", {}))


def with_key(key: str) -> RequestParamsMeta:
    """The `_meta` that makes a call safe to repeat."""
    return cast("RequestParamsMeta", {"dev.holdfast/idempotencyKey": key})
