"""`holdfast init`: a first config that works, an approver with a token, and what to do next."""

import json
import os
import secrets
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from holdfast_server.cli.failures import Failure
from holdfast_server.cli.output import print_json
from holdfast_server.engine.paths import PRIVATE_FILE

APPROVER = "approver"
TOKEN_BYTES = 32

TEMPLATE = """\
# Holdfast: what stands between an MCP client and the tools it calls.
# Check this file with:  holdfast config check {name}
# Every key:             docs/configuration.md

# The servers whose tools are served, in the shape MCP clients use. Paste your own `mcpServers` here.
mcpServers:
  time:
    command: {command}
    args: {args}
  # git:
  #   command: uvx
  #   args: [mcp-server-git, --repository, /path/to/repository]
  # payments:
  #   url: https://payments.example/mcp
  #   headers: {{Authorization: "Bearer ${{PAYMENTS_TOKEN}}"}}

# What happens to a call that no rule matches:
#   observe   allow it, and record what would have been asked
#   balanced  allow tools that are read-only or not destructive, ask a person about the rest
#   strict    allow only what is marked so under `tools:`, ask about the rest
preset: balanced

# Rules: of all that match, deny beats require_approval beats allow.
# rules:
#   - id: refunds-over-100
#     match: {{tool: "payments__refund"}}
#     when: args.amount > 100
#     effect: require_approval
#     reason: Refunds over 100 need a second pair of eyes

# What single tools are, and how they are treated. Names are server__tool; * fits any.
# tools:
#   "payments__*": {{annotations: {{idempotentHint: true}}, timeout: 30s}}

# Who may approve. The token is in a file of your own; never give it to an agent.
principals:
  - id: {approver}
    token_file: {token_file}
    roles: [approver, admin]
"""


def init(path: Path, force: bool, as_json: bool) -> None:
    """Write a config to `path` and a token beside it, and print the next steps."""
    token_file = path.with_name(f"{path.stem}.{APPROVER}.token")
    if path.is_dir():
        raise Failure(f"{path} is a folder; name a file in it, as in {path / 'holdfast.yaml'}")
    existing = [str(found) for found in (path, token_file) if found.exists() or found.is_symlink()]
    if existing and not force:
        raise Failure(f"{' and '.join(existing)} exist{'s' if len(existing) == 1 else ''}; --force overwrites")
    command, *arguments = example_server()
    text = TEMPLATE.format(
        name=path.name,
        command=json.dumps(command),
        args=json.dumps(arguments),
        approver=APPROVER,
        token_file=json.dumps(token_file.name),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(token_file, secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {error.filename}: {error.strerror}; choose another place") from error
    entry = client_entry(path)
    if as_json:
        print_json({"config": str(path), "token_file": str(token_file), "client": entry})
    else:
        print(_next_steps(path, token_file, entry))


def example_server() -> tuple[str, ...]:
    """The command of a harmless server, by what this machine has to start one with."""
    if find_spec("mcp_server_time") is None and shutil.which("uvx") is not None:
        return ("uvx", "mcp-server-time")
    return (sys.executable, "-m", "mcp_server_time")


def client_entry(path: Path) -> dict[str, object]:
    """The `mcpServers` entry with which a client starts this very installation."""
    return {"mcpServers": {"holdfast": {"command": own_command(), "args": ["serve", str(path.resolve())]}}}


def own_command() -> str:
    """The absolute path of this `holdfast`: clients start servers with a PATH of their own."""
    beside = Path(sys.executable).with_name("holdfast")
    return str(beside) if beside.exists() else shutil.which("holdfast") or str(beside)


def _write_private(path: Path, text: str) -> None:
    """Replace `path` by a new file that nobody else could ever read."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _next_steps(path: Path, token_file: Path, entry: dict[str, object]) -> str:
    return f"""\
Wrote {path}
      {token_file} (mode 0600: the approver's token)

1. Put your servers into {path}, then check it:
     holdfast config check {path}

2. Paste this into your client's config in place of the servers you moved
   (Claude Desktop: claude_desktop_config.json):

{_indented(json.dumps(entry, indent=2))}

3. See what waits for approval, and decide:
     holdfast approvals list {path}
     holdfast approvals approve {path} APPROVAL

If something does not work: holdfast doctor {path}"""


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())
