"""An engine for tests of what stands around engines: the real lock, socket and hello, and a toy behind them.

    python fake_engine.py CONFIG JOURNAL [--fail CODE] [--refuse TEXT] [--warn TEXT] [--last-words TEXT] [--slow S]

Everything that reaches it is appended to JOURNAL, one JSON object per line. Methods:

    echo    the params, and who answered           hang    no answer, ever
    ask     asks the client, answers what it says  die     SIGKILL to itself
    fill    `bytes` bytes of text                  stop    stops in good order
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from holdfast_server.engine.admin_token import ensure_admin_token
from holdfast_server.engine.hello import Answer, Hello
from holdfast_server.engine.listener import SocketListener, read_lines
from holdfast_server.engine.lock import Owner, OwnerLock
from holdfast_server.engine.paths import prepare
from holdfast_server.engine.signals import stop_signals

VERSION = "0.0.test"


class FakeEngine:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.stop = asyncio.Event()
        self.asked: dict[Any, Any] = {}

    def note(self, **entry: Any) -> None:
        with open(self.options.journal, "a") as journal:
            journal.write(json.dumps({"pid": os.getpid(), **entry}) + "\n")

    async def on_connection(self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.note(hello=hello.endpoint, principal=hello.principal, token=hello.token, variables=dict(hello.variables))
        refused = self.options.refuse
        writer.write(Answer(os.getpid(), VERSION, ok=refused is None, error=refused, warning=self.options.warn).line())
        if refused is None:
            async for line in read_lines(reader):
                await self.on_line(line, writer)

    async def on_line(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            await say(writer, {"id": None, "error": {"code": -32700, "message": "no JSON"}})
            return
        self.note(method=message.get("method"), id=message.get("id"), bytes=len(line))
        answer = self.answer(message)
        if answer is not None:
            await say(writer, answer)

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        params = message.get("params") or {}
        match message.get("method"):
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                self.stop.set()
            case "ask":
                self.asked[1] = message["id"]
                return {"id": 1, "method": "elicitation/create", "params": params}
            case "withdraw":
                return {"method": "notifications/cancelled", "params": {"requestId": 1}}
            case "fill":
                return {"id": message["id"], "result": {"text": "x" * params["bytes"]}}
            case "tools/call" if params.get("name") == "fail":
                error = {"code": params["arguments"]["code"], "message": "so it failed"}
                return {"id": message["id"], "result": {"isError": True, "structuredContent": {"error": error}}}
            case "tools/call":
                if params.get("name") == "engine_stop":
                    self.stop.set()
                return {"id": message["id"], "result": {"structuredContent": {"pid": os.getpid(), "params": params}}}
            case "hang" | "notifications/initialized" | "notifications/cancelled" | "subscriptions/listen":
                return None
            case None:
                asker = self.asked.pop(message["id"], None)
                return {"id": asker, "result": {"said": message.get("result")}} if asker is not None else None
            case _:
                return {"id": message["id"], "result": {"pid": os.getpid(), "params": params}}
        return None


async def say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    await writer.drain()


async def main(options: argparse.Namespace) -> int:
    engine = FakeEngine(options)
    engine.note(started=str(options.config), cwd=os.getcwd(), sid=os.getsid(0), parent=os.getppid())
    if options.slow:
        time.sleep(options.slow)
    if options.fail is not None:
        print(options.last_words, file=sys.stderr)
        return int(options.fail)
    paths = prepare(options.config, os.environ)
    with OwnerLock(paths.lock, Owner.this_process(options.config, "detached")) as lock, stop_signals() as stop:
        ensure_admin_token(paths.token)
        async with SocketListener(paths.socket, lock, engine.on_connection, version=VERSION):
            engine.note(listening=str(paths.socket), descriptors=open_descriptors())
            stopped = [asyncio.create_task(event.wait()) for event in (stop, engine.stop)]
            await asyncio.wait(stopped, return_when=asyncio.FIRST_COMPLETED)
            for task in stopped:
                task.cancel()
    engine.note(stopped=True)
    return 0


def open_descriptors() -> dict[str, str]:
    folder = Path("/proc/self/fd")
    return (
        {entry.name: os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()} if folder.exists() else {}
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--fail", type=int)
    parser.add_argument("--refuse")
    parser.add_argument("--warn")
    parser.add_argument("--last-words", default="")
    parser.add_argument("--slow", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
