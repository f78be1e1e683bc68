"""A stdio server, without a library that would check for it, whose results are whatever the call's arguments say.

`act` declares an output schema and `look` the same one read-only; `odd` declares a broken one, `plain` none. All
append a line to the LOG that is the one argument of the command, and answer with the argument `result`.
"""

import json
import sys
from pathlib import Path
from typing import Any

PROMISE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
INPUT = {"type": "object", "properties": {"result": {"type": "object"}}, "required": ["result"]}
HARMLESS = {"readOnlyHint": False, "destructiveHint": False}
TOOLS = [
    {"name": "act", "inputSchema": INPUT, "outputSchema": PROMISE, "annotations": HARMLESS},
    {"name": "look", "inputSchema": INPUT, "outputSchema": PROMISE, "annotations": {"readOnlyHint": True}},
    {"name": "odd", "inputSchema": INPUT, "outputSchema": {"type": "no such type"}, "annotations": HARMLESS},
    {"name": "plain", "inputSchema": INPUT, "annotations": HARMLESS},
]


def answer(message: dict[str, Any], log: Path) -> dict[str, Any]:
    match message["method"]:
        case "initialize":
            info = {"name": "output", "version": "1"}
            return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            with log.open("a") as file:
                file.write(message["params"]["name"] + "\n")
            result: dict[str, Any] = message["params"]["arguments"]["result"]
            return result
    raise LookupError(message["method"])


for line in sys.stdin:
    received = json.loads(line)
    if "id" in received:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": received["id"]}
        try:
            reply["result"] = answer(received, Path(sys.argv[1]))
        except LookupError as unknown:
            reply["error"] = {"code": -32601, "message": f"no {unknown}"}
        print(json.dumps(reply), flush=True)
