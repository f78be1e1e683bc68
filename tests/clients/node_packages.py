"""What comes from npm: three reference servers as downstreams, and the Inspector's entry point."""

from pathlib import Path
from typing import Any

from support import npm

LOCKED = Path(__file__).parent / "npm"
SCOPE = Path("node_modules") / "@modelcontextprotocol"
INSPECTOR = SCOPE / "inspector" / "clients" / "launcher" / "build" / "index.js"


class NodePackages:
    """The installed packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def install(cls) -> "NodePackages":
        """The packages of the lock, installed where that was not done yet. Raises `InstallError`."""
        return cls(npm.installed(LOCKED, "npm"))

    @property
    def inspector(self) -> list[str]:
        """The command line of the Inspector without its window."""
        return [str(self._folder / npm.NODE), str(self._folder / INSPECTOR), "--cli"]

    def filesystem(self, allowed: Path) -> dict[str, Any]:
        """As an entry of `mcpServers`: reads and writes files below `allowed`."""
        return self._server("filesystem", str(allowed))

    def memory(self, kept: Path) -> dict[str, Any]:
        """A graph of knowledge that is written to the file `kept`."""
        return {**self._server("memory"), "env": {"MEMORY_FILE_PATH": str(kept)}}

    def everything(self) -> dict[str, Any]:
        """A server that shows all of the protocol of 2025-11-25."""
        return self._server("everything")

    def _server(self, name: str, *arguments: str) -> dict[str, Any]:
        entry = self._folder / SCOPE / f"server-{name}" / "dist" / "index.js"
        return {"command": str(self._folder / npm.NODE), "args": [str(entry), *arguments]}
