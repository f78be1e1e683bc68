"""A stdio server without any library, so that it can do what a library forbids. Tools are named for what they do.

    python scripted.py LOG [--legacy] [--banner] [--deaf]

Each line it receives is appended to LOG. ``--legacy`` knows no `server/discover`, ``--banner`` greets on stdout,
``--deaf`` neither leaves when its stdin closes nor on SIGTERM.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Message = dict[str, Any]

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
CAPABILITIES = {"tools": {"listChanged": True}}
NAMES = (
    *("echo", "wait", "release", "die", "answer_and_die", "fork", "big", "crowd", "fail", "decline"),
    *("nan", "not_utf8", "broken", "progress", "change", "close_stdout", "say"),
)


class Scripted:
    """The server. What it holds back is answered by `release`."""

    def __init__(self, log: Path, *, legacy: bool) -> None:
        self.log = log
        self.legacy = legacy
        self.waiting: list[Any] = []
        self.listener: Any = None
        self.version = 0

    def receive(self, line: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(line)
        message = json.loads(line)
        if "id" in message:
            handler = getattr(self, message["method"].replace("/", "_"), None)
            if handler is None or (self.legacy and message["method"].startswith(("server/", "subscriptions/"))):
                self.refuse(message["id"], -32601, "Method not found")
            else:
                handler(message["id"], message.get("params") or {})

    def server_discover(self, request: Any, params: Message) -> None:
        self.answer(request, {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, "ttlMs": 0})

    def initialize(self, request: Any, params: Message) -> None:
        info = {"name": "scripted", "version": "1"}
        self.answer(request, {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "serverInfo": info})

    def tools_list(self, request: Any, params: Message) -> None:
        page = int(params.get("cursor", 0))
        schema = {"type": "object", "$defs": {"kept": {"type": "string"}}, "x-kept": [1]}
        names = [f"extra_{self.version}"] if page else NAMES
        tools = [{"name": name, "inputSchema": schema, "x-unknown": {"kept": True}} for name in names]
        self.answer(request, {"tools": tools} | ({} if page else {"nextCursor": "1"}))

    def subscriptions_listen(self, request: Any, params: Message) -> None:
        self.listener = request
        honored = {"_meta": {SUBSCRIPTION: request}, "notifications": {"toolsListChanged": True}}
        self.notify("notifications/subscriptions/acknowledged", honored)

    def tools_call(self, request: Any, params: Message) -> None:
        getattr(self, f"call_{params['name']}")(request, params)

    def call_echo(self, request: Any, params: Message) -> None:
        self.answer_text(request, json.dumps(params))

    def call_wait(self, request: Any, params: Message) -> None:
        self.waiting.append(request)

    def call_release(self, request: Any, params: Message) -> None:
        for waiting in self.waiting:
            self.answer_text(waiting, "released")
        self.waiting.clear()
        self.answer_text(request, "done")

    def call_die(self, request: Any, params: Message) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def call_answer_and_die(self, request: Any, params: Message) -> None:
        self.answer_text(request, "last words" * 5000)
        os.kill(os.getpid(), signal.SIGKILL)

    def call_fork(self, request: Any, params: Message) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
        self.answer_text(request, str(child.pid))

    def call_big(self, request: Any, params: Message) -> None:
        self.answer_text(request, "x" * params["arguments"]["bytes"])

    def call_crowd(self, request: Any, params: Message) -> None:
        self.answer(request, {"content": [{"type": "text", "text": "x" * 100}] * params["arguments"]["items"]})

    def call_fail(self, request: Any, params: Message) -> None:
        self.refuse(request, -32000, "on purpose", {"why": "asked to"})

    def call_decline(self, request: Any, params: Message) -> None:
        self.answer(request, {"content": [{"type": "text", "text": "no"}], "isError": True})

    def call_nan(self, request: Any, params: Message) -> None:
        self.answer(request, {"content": [], "structuredContent": {"a": [1.5, float("nan")], "b": float("inf")}})

    def call_not_utf8(self, request: Any, params: Message) -> None:
        self.raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[],"note":"caf\xe9"}}\n' % json.dumps(request).encode())

    def call_broken(self, request: Any, params: Message) -> None:
        self.raw(b'{"jsonrpc":"2.0","id":%s,"result":null}\n' % json.dumps(request).encode())

    def call_progress(self, request: Any, params: Message) -> None:
        token = params["_meta"]["progressToken"]
        self.notify("notifications/progress", {"progressToken": token, "progress": 1, "total": 2, "message": "half"})
        self.answer_text(request, "done")

    def call_say(self, request: Any, params: Message) -> None:
        self.notify("notifications/message", {"level": "error", "data": params["arguments"]["words"]})
        self.answer_text(request, "done")

    def call_change(self, request: Any, params: Message) -> None:
        self.version += 1
        for _ in range(params["arguments"]["times"]):
            meta = {"_meta": {SUBSCRIPTION: self.listener}} if self.listener is not None else {}
            self.notify("notifications/tools/list_changed", meta)
        self.answer_text(request, "done")

    def call_close_stdout(self, request: Any, params: Message) -> None:
        os.close(1)

    def answer_text(self, request: Any, text: str) -> None:
        self.answer(request, {"content": [{"type": "text", "text": text}]})

    def answer(self, request: Any, result: Message) -> None:
        self.write({"jsonrpc": "2.0", "id": request, "result": result | {"resultType": "complete"}})

    def refuse(self, request: Any, code: int, message: str, data: Any = None) -> None:
        error = {"code": code, "message": message} | ({"data": data} if data is not None else {})
        self.write({"jsonrpc": "2.0", "id": request, "error": error})

    def notify(self, method: str, params: Message) -> None:
        self.write({"jsonrpc": "2.0", "method": method, "params": params})

    def write(self, message: Message) -> None:
        self.raw(json.dumps(message).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--banner", action="store_true")
    parser.add_argument("--deaf", action="store_true")
    options = parser.parse_args()
    server = Scripted(options.log, legacy=options.legacy)
    if options.banner:
        server.raw(b'Welcome to the scripted server!\nStill loading: caf\xe9\n\n{"level": "info"}\n[1, 2]\n')
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("scripted server ready, token is", os.environ.get("TOKEN"), file=sys.stderr, flush=True)
    for line in sys.stdin.buffer:
        server.receive(line)
    if options.deaf:
        time.sleep(600)


if __name__ == "__main__":
    main()
