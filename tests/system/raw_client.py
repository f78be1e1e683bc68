"""A client of one `holdfast serve`, line by line: what it is told, what it reads on stderr, and how it ends."""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from asking import DEADLINE_S, gone
from support.processes import wait_until
from support.workspace import HOLDFAST, Workspace

CHUNK_BYTES = 65_536
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

Message = dict[str, Any]


class Closed(Exception):
    """The shim closed its stdout."""


class RawClient:
    """Speaks 2026-07-28, whose requests need no session. Raises `TimeoutError` where the time is up."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        self._errors = b""
        self._asked = 0
        self._received = b""

    @property
    def stderr(self) -> str:
        """What was said on stderr up to now; all of it once the process has ended."""
        assert self.process.stderr is not None
        self._errors += self.process.stderr.read() or b""
        return self._errors.decode()

    def ask(self, method: str, **params: Any) -> Message:
        """The whole answer to a request, result or error."""
        self.send(method, **params)
        return self.answer()

    def call(self, tool: str, **arguments: Any) -> Message:
        """The result of a tool."""
        answer = self.ask("tools/call", name=tool, arguments=arguments)
        assert "result" in answer, answer
        return answer["result"]  # type: ignore[no-any-return]

    def send(self, method: str, **params: Any) -> None:
        """Ask, and leave the answer to `answer`."""
        self._asked += 1
        message = {"jsonrpc": "2.0", "id": self._asked, "method": method, "params": {**params, "_meta": META}}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Message:
        """The answer to the last request. Raises `Closed`."""
        while True:
            message: Message = json.loads(self._line())
            if message.get("id") == self._asked and "method" not in message:
                return message

    def leave(self) -> int:
        """Close stdin; the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.wait()

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(DEADLINE_S)

    def _line(self) -> bytes:
        deadline = time.monotonic() + DEADLINE_S
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._received:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise TimeoutError(f"no line within {DEADLINE_S} s; on stderr: {self.stderr}")
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                raise Closed(self.stderr)
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


@contextmanager
def raw_client(
    workspace: Workspace,
    *options: str,
    variables: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (str(HOLDFAST),),
) -> Iterator[RawClient]:
    """A client with a `serve` of its own, which has `variables` besides the workspace's; it ends with the block."""
    process = subprocess.Popen(
        [*command, "serve", str(workspace.config), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**workspace.environment, **(variables or {})},
        cwd=workspace.folder,
    )
    try:
        yield RawClient(process)
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                with suppress(BrokenPipeError):
                    stream.close()


def park(client: RawClient, n: int) -> str:
    """The id of a call that waits for approval."""
    result = client.call("ledger__destroy", n=n)
    return str(result["_meta"]["dev.holdfast/call"]["id"])


def told(workspace: Workspace, *arguments: str, variables: Mapping[str, str] | None = None) -> Any:
    """What a command of the workspace's `holdfast` that succeeds prints for programs."""
    done = workspace.run(*arguments, "--json", variables=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def until_gone(pid: int) -> None:
    """Wait for the end of an engine."""
    wait_until(lambda: gone(pid), DEADLINE_S, f"the end of engine {pid}")
