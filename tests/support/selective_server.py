"""A stdio server of the handshake era that lists by what its client declared, as many servers of that era do.

    python selective_server.py FOLDER

``FOLDER/tools.json`` says what it lists to everybody and what besides, read at each listing:
``{"common": ["plain"], "besides": {"elicitation": ["ask_person"]}}``. A client that declares one of ``"refuses"`` is
left at its handshake. What it lists besides it knows only once the client is initialized, and says so then. Each
handshake and listing is a line of ``FOLDER/log``.

`ask_person` asks for a name and answers with it, `grow` has this session list `grown` from then on, `tell` says that
the tools changed, `fail` fails. All other tools answer with their name.
"""

import json
import sys
from pathlib import Path
from typing import Any

Message = dict[str, Any]

QUESTION = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
FORM = {"type": "object", "properties": {"n": {"type": "integer"}}}


class Selective:
    """The server, with the one client of its stdio."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.declared: set[str] = set()
        self.initialized = False
        self.grown: list[str] = []
        self.waiting: list[Any] = []

    def receive(self, message: Message) -> None:
        method = message.get("method")
        if method is None:
            self.answered(message)
        elif method == "notifications/initialized":
            self.initialized = True
            self.tell_of_change()
        elif method == "initialize":
            self.shake_hands(message["id"], message["params"])
        elif method == "tools/list":
            self.note(f"lists for {self.who}")
            tools = [{"name": name, "inputSchema": FORM} for name in self.names()]
            self.write({"id": message["id"], "result": {"tools": tools}})
        elif method == "tools/call":
            self.call(message["id"], message["params"]["name"])
        elif "id" in message:
            self.write({"id": message["id"], "error": {"code": -32601, "message": f"Method not found: {method}"}})

    def shake_hands(self, request: Any, params: Message) -> None:
        self.declared = set(params["capabilities"])
        self.note(f"greets {self.who}")
        if self.declared & set(self.listed().get("refuses", [])):
            sys.exit(1)
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "selective", "version": "1"},
        }
        self.write({"id": request, "result": result})

    def call(self, request: Any, name: str) -> None:
        if name not in self.names():
            self.write({"id": request, "error": {"code": -32602, "message": f"Tool {name} not found"}})
        elif name == "ask_person":
            self.waiting.append(request)
            self.write({"id": "who", "method": "elicitation/create", "params": QUESTION})
        elif name == "fail":
            text = f"failed in a session for {self.who}"
            self.write({"id": request, "result": {"content": [{"type": "text", "text": text}], "isError": True}})
        else:
            if name == "grow":
                self.grown.append("grown")
            if name in ("grow", "tell"):
                self.tell_of_change()
            self.say(request, name)

    def answered(self, message: Message) -> None:
        answer = message.get("result") or {}
        self.say(self.waiting.pop(), f"Hello, {(answer.get('content') or {}).get('name', 'nobody')}!")

    @property
    def who(self) -> str:
        return " and ".join(sorted(self.declared)) or "everybody"

    def listed(self) -> Message:
        listed: Message = json.loads((self.folder / "tools.json").read_text())
        return listed

    def names(self) -> list[str]:
        listed = self.listed()
        besides = [listed["besides"].get(name, []) for name in sorted(self.declared)] if self.initialized else []
        return [*listed["common"], *(name for names in besides for name in names), *self.grown]

    def tell_of_change(self) -> None:
        self.write({"method": "notifications/tools/list_changed"})

    def say(self, request: Any, words: str) -> None:
        self.write({"id": request, "result": {"content": [{"type": "text", "text": words}]}})

    def note(self, line: str) -> None:
        with (self.folder / "log").open("a") as file:
            file.write(line + "\n")

    def write(self, message: Message) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    server = Selective(Path(sys.argv[1]))
    for line in sys.stdin:
        server.receive(json.loads(line))
