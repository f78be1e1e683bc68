"""Where things lie: paths and store addresses relative to the config's folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from holdfast_server.config.document import Document
from holdfast_server.config.problems import Findings
from holdfast_server.engine.paths import state_paths

_SQLITE = "sqlite://"


def absolute(path: str, folder: Path) -> Path:
    """`path` made absolute: `~` is the home folder, anything relative is in `folder`."""
    return Path(os.path.normpath(folder / Path(os.path.expanduser(path))))


def store_url(
    given: str | None, config: Path, environ: Mapping[str, str], document: Document, findings: Findings
) -> str:
    """The address of the store, ``sqlite:///`` and an absolute path."""
    default = f"{_SQLITE}{state_paths(config, environ).store}"
    if given is None:
        return default
    line = document.line(("store",))
    scheme = given.partition(":")[0].lower()
    if scheme in ("postgresql", "postgres"):
        findings.problem(
            line, "store: this version of Holdfast does not have PostgreSQL", "use sqlite:///path/state.db"
        )
        return default
    path = given.removeprefix(_SQLITE)
    if path == given:
        findings.problem(line, "store: not an address Holdfast knows", "write sqlite:///absolute/path/state.db")
        return default
    if not path.strip("/.") or path.endswith("/"):
        findings.problem(line, "store: the address names no file", "write sqlite:///absolute/path/state.db")
        return default
    if "?" in path or "#" in path or ":memory:" in path:
        findings.problem(line, "store: options and stores in memory are not supported", "name a file only")
        return default
    if not path.startswith(("/", "./", "../", "~")):
        findings.problem(
            line,
            "store: a relative path must begin with ./",
            f"write {_SQLITE}./{path}, or three slashes for an absolute one",
        )
        return default
    if path.startswith(("/./", "/../")):
        path = path[1:]
    elif path.startswith("//"):
        path = "/" + path.lstrip("/")
    found = absolute(path, config.parent)
    if found.is_dir():
        findings.problem(line, f"store: {found} is a folder", "name a file in it")
    return f"{_SQLITE}{found}"
