"""Other releases of Holdfast: the installed packages, copied, with another version; real in every other respect."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from holdfast_server.engine.hello import PROTOCOL
from holdfast_server.version import VERSION
from holdfast_store.sqlite.statements import migrations

PACKAGES = ("holdfast_server", "holdfast_tools", "holdfast_policy", "holdfast_observe", "holdfast_store")
OLDER, NEWER = "0.0.9", "99.1.0"


class Release:
    """A copy in `folder`. `variables` are for whoever runs it in place of what is installed."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.version = VERSION
        for package in PACKAGES:
            found = find_spec(package)
            assert found is not None
            assert found.submodule_search_locations is not None
            shutil.copytree(found.submodule_search_locations[0], folder / package)
        self.become(version)

    @property
    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder)}

    def become(self, version: str) -> None:
        """Another version is installed over this one."""
        self._edit("holdfast_server/version.py", f'VERSION = "{self.version}"', f'VERSION = "{version}"')
        self.version = version

    def speak(self, protocol: int) -> None:
        """Have its hello bear another number."""
        self._edit("holdfast_server/engine/hello.py", f"PROTOCOL = {PROTOCOL}", f"PROTOCOL = {protocol}")

    def extend_the_store(self) -> None:
        """Have it bring one more migration."""
        script = self.folder / f"holdfast_store/sql/sqlite/migrations/{max(migrations()) + 1:04}_later.sql"
        script.write_text("CREATE TABLE later (a TEXT) STRICT;\n")

    def _edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
