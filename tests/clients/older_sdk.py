"""A client of the SDK's first line, in a process and an environment of its own."""

import asyncio
import json
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from callers import DEADLINE_S, Caller, Said, Where
from support.once import installed_once, run_installer

FOLDER = Path(__file__).parent / "mcp1"
DRIVER = FOLDER / "driver.py"
LOCK = FOLDER / "requirements.lock"
PYTHON = Path("bin") / "python"


def installed() -> Path:
    """The Python of the environment with the older SDK, made where that was not done yet. Raises `InstallError`."""
    return installed_once("mcp1", [LOCK], _install) / PYTHON


def _install(folder: Path) -> None:
    venv.create(folder, with_pip=True, clear=False, symlinks=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    run_installer([folder / PYTHON, "-m", "pip", "install", *options, "-r", LOCK], folder)


class OlderCaller:
    """The driver, one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def names(self) -> set[str]:
        return set((await self._ask({}))["names"])

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        answer = await self._ask({"tool": tool, "arguments": arguments, "patience_s": patience_s})
        if "gave_up" in answer:
            raise TimeoutError
        return Said(answer["words"], answer["is_error"])

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the driver was started without pipes")
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver ended with {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def older_sdk(where: Where) -> AsyncIterator[Caller]:
    python = await anyio.to_thread.run_sync(installed)
    reached = {"url": where} if isinstance(where, str) else where.model_dump(mode="json", exclude_none=True)
    process = await asyncio.create_subprocess_exec(
        python, DRIVER, json.dumps(reached), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield OlderCaller(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
