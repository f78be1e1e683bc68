"""The MCP clients that `holdfast init` knows: where each keeps its servers, and how long it waits for a call.

A *place* is one mapping of servers in one file. A client has several where it tells scopes apart: what all of its
user's projects see, and what one project sees.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

CAUTIOUS_WAIT_S = 4.0
"""For clients of which nothing is known: several frameworks give up at 5 s."""


class Dialect(StrEnum):
    """How a client writes variables in its servers' texts."""

    NONE = "none"  # not at all: `${NAME}` is passed on as it stands
    SHELL = "shell"  # ${NAME} and ${NAME:-default}
    EDITOR = "editor"  # ${env:NAME}, ${input:id}, ${workspaceFolder}, ${userHome}


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of one client. `inline_wait_s` is below its own timeout, which `patience` tells of."""

    name: str
    title: str
    dialect: Dialect
    inline_wait_s: float
    patience: str
    restart: str
    typed: bool = False  # its entries carry `type: stdio`
    tool_prefix: str = ""  # what it puts before the name of a server's tools


CLAUDE_DESKTOP = Client(
    "claude-desktop",
    "Claude Desktop",
    Dialect.NONE,
    45.0,
    "it gives up on a call after about a minute at the earliest",
    "Quit Claude Desktop and start it again.",
)
CLAUDE_CODE = Client(
    "claude-code",
    "Claude Code",
    Dialect.SHELL,
    45.0,
    "it waits for as long as MCP_TOOL_TIMEOUT says",
    "Start a new session of Claude Code.",
    typed=True,
    tool_prefix="mcp__{server}__",
)
CURSOR = Client(
    "cursor",
    "Cursor",
    Dialect.EDITOR,
    30.0,
    "it gives up on a call after about a minute",
    "Reload Cursor's window.",
)
VS_CODE = Client(
    "vscode",
    "VS Code",
    Dialect.EDITOR,
    30.0,
    "it waits, and its user watches",
    "Run `MCP: List Servers` in VS Code and start holdfast.",
    typed=True,
)
UNKNOWN = Client(
    "file",
    "this client",
    Dialect.SHELL,
    CAUTIOUS_WAIT_S,
    "how long this client waits is not known",
    "Start the client again.",
)

CLIENTS: Mapping[str, Client] = {c.name: c for c in (CLAUDE_DESKTOP, CLAUDE_CODE, CURSOR, VS_CODE)}


@dataclass(frozen=True, slots=True)
class Place:
    """A mapping of servers: under the keys `path` of `file`. `folder` is the project's, None for a user's own."""

    client: Client
    scope: str
    file: Path
    path: tuple[str, ...]
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.file} ({' > '.join(self.path)})"


def places(client: Client, folder: Path, environ: Mapping[str, str]) -> Sequence[Place]:
    """Where `client` may keep servers for a user with `environ` who works in `folder`, the widest scope first."""
    home = _home(environ)
    if client is CLAUDE_DESKTOP:
        return (Place(client, "user", _app_folder(environ) / "Claude" / "claude_desktop_config.json", ("mcpServers",)),)
    if client is CLAUDE_CODE:
        own = Path(environ.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json"
        return (
            Place(client, "user", own, ("mcpServers",)),
            Place(client, "local", own, ("projects", str(folder), "mcpServers"), folder),
            Place(client, "project", folder / ".mcp.json", ("mcpServers",), folder),
        )
    if client is CURSOR:
        return (
            Place(client, "user", home / ".cursor" / "mcp.json", ("mcpServers",)),
            Place(client, "project", folder / ".cursor" / "mcp.json", ("mcpServers",), folder),
        )
    return (
        Place(client, "user", _app_folder(environ) / "Code" / "User" / "mcp.json", ("servers",)),
        Place(client, "project", folder / ".vscode" / "mcp.json", ("servers",), folder),
    )


def places_in(file: Path) -> Sequence[Place]:
    """The places that a named file may have, by its name and by the keys that clients use."""
    file = file.resolve()
    around = file.parent.name
    if file.name == "claude_desktop_config.json":
        return (Place(CLAUDE_DESKTOP, "user", file, ("mcpServers",)),)
    if file.name in (".claude.json", ".mcp.json"):
        folder = file.parent if file.name == ".mcp.json" else None
        return (Place(CLAUDE_CODE, "project" if folder else "user", file, ("mcpServers",), folder),)
    if around == ".cursor":
        return (Place(CURSOR, "project", file, ("mcpServers",), file.parent.parent),)
    if around == ".vscode" or (around == "User" and file.name == "mcp.json"):
        folder = file.parent.parent if around == ".vscode" else None
        return (
            Place(VS_CODE, "project" if folder else "user", file, ("servers",), folder),
            Place(VS_CODE, "settings", file, ("mcp", "servers"), folder),
        )
    return (
        Place(UNKNOWN, "mcpServers", file, ("mcpServers",)),
        Place(VS_CODE, "servers", file, ("servers",)),
        Place(VS_CODE, "mcp.servers", file, ("mcp", "servers")),
    )


def _home(environ: Mapping[str, str]) -> Path:
    named = environ.get("USERPROFILE") if sys.platform == "win32" else environ.get("HOME")
    return Path(named) if named else Path(os.path.expanduser("~"))


def _app_folder(environ: Mapping[str, str]) -> Path:
    """Where applications of this platform keep their users' settings."""
    home = _home(environ)
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
