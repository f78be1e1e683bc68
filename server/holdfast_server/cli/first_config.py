"""The text of a first config: what `holdfast init` writes, commented, with an approver."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from holdfast_policy.values import Preset
from holdfast_server.cli.client_file import replace_text
from holdfast_server.config.quantities import duration_words
from holdfast_server.engine.paths import PRIVATE_FILE
from holdfast_store.model.values import Json

APPROVER = "approver"
TOKEN_BYTES = 32

_HEAD = """\
# Holdfast: what stands between an MCP client and the tools it calls.
# Check this file with:  holdfast config check {name}
# Every key:             docs/configuration.md

# The servers whose tools are served, in the shape MCP clients use.{more}
mcpServers:
{servers}
"""

_REST = """
# What happens to a call that no rule matches:
#   observe   allow it, and record what would have been asked
#   balanced  allow tools that are read-only or not destructive, ask a person about the rest
#   strict    allow only what is marked so under `tools:`, ask about the rest
preset: {preset}
{inline_wait}
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

_INLINE_WAIT = """
# How long {client} waits for a result before it gets a handle: {why}.
inline_wait: {inline_wait}
"""

EXAMPLES = """\
  # git:
  #   command: uvx
  #   args: [mcp-server-git, --repository, /path/to/repository]
  # payments:
  #   url: https://payments.example/mcp
  #   headers: {Authorization: "Bearer ${PAYMENTS_TOKEN}"}"""


def token_file_of(path: Path) -> Path:
    """Where the approver's token of the config at `path` lies."""
    return path.with_name(f"{path.stem}.{APPROVER}.token")


def write_token(path: Path) -> None:
    """A fresh token that nobody else could ever read. Raises `Failure`."""
    replace_text(path, secrets.token_urlsafe(TOKEN_BYTES) + "\n", PRIVATE_FILE)


def config_text(
    path: Path,
    servers: str,
    *,
    more: str = "",
    preset: Preset = Preset.BALANCED,
    inline_wait_s: float | None = None,
    client: str = "",
    why: str = "",
) -> str:
    """A config with these `servers`, written as the lines below `mcpServers:`."""
    wait = "" if inline_wait_s is None else duration_words(inline_wait_s)
    return _HEAD.format(name=path.name, more=more, servers=servers) + _REST.format(
        preset=preset.value,
        inline_wait=_INLINE_WAIT.format(client=client, why=why, inline_wait=wait) if wait else "",
        approver=APPROVER,
        token_file=json.dumps(token_file_of(path).name),
    )


def server_lines(servers: Mapping[str, Json]) -> str:
    """`servers` as YAML, one key a line; every text is in quotes and so means itself."""
    lines = []
    for name, entry in servers.items():
        lines.append(f"  {_quoted(name)}:")
        lines.extend(f"    {key}: {_quoted(value)}" for key, value in entry.items())
    return "\n".join(lines) or "  {}"


def _quoted(value: object) -> str:
    """JSON, which is YAML; escaped where YAML allows less than JSON does."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
