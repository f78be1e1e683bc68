"""The selective server as a downstream: what it lists to whom, and what it noted."""

import json
import sys
from pathlib import Path
from typing import Any

SERVER = Path(__file__).parent / "selective_server.py"


class Selective:
    """One such server, with its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "selective"
        self._folder.mkdir()
        self.lists("plain", elicitation=["ask_person"], sampling=["ask_model"])

    def lists(self, *common: str, refuses: tuple[str, ...] = (), **besides: list[str]) -> None:
        """From now on it lists `common` to everybody, and `besides` to who declares that."""
        listed = {"common": common, "besides": besides, "refuses": refuses}
        (self._folder / "tools.json").write_text(json.dumps(listed))

    def entry(self) -> dict[str, Any]:
        """As an entry of `mcpServers`."""
        return {"command": sys.executable, "args": [str(SERVER), str(self._folder)]}

    def noted(self, line: str) -> int:
        """How often it noted `line`: ``greets NAMES`` or ``lists for NAMES``, of what was declared."""
        log = self._folder / "log"
        return log.read_text().splitlines().count(line) if log.exists() else 0

    def greeted(self) -> int:
        """How many sessions there were."""
        log = self._folder / "log"
        return sum(line.startswith("greets") for line in log.read_text().splitlines())
