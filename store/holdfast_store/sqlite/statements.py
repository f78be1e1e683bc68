"""Statements by file and name, read once from the package's ``sql/sqlite`` folder.

A file is a row of sections, each opened by ``-- name: <name>``; comment lines that follow describe it. ``{name}``
inside a section stands for another section of the same file. The text of a statement never changes at run time, so
that SQLite prepares each once per connection.
"""

import re
from collections.abc import Mapping
from importlib.resources import files

_FOLDER = files("holdfast_store.sql") / "sqlite"
_SECTION = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_REFERENCE = re.compile(r"\{(\w+)\}")


def load(file: str) -> Mapping[str, str]:
    """All sections of ``<file>.sql`` by name. Raises `KeyError` for a reference to a section that is not there."""
    text = (_FOLDER / f"{file}.sql").read_text(encoding="utf-8")
    parts = _SECTION.split(text)
    sections = {name: _without_comments(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: _expand(body, sections) for name, body in sections.items()}


def migrations() -> Mapping[int, str]:
    """The migration scripts by version, in order, without gaps from 1."""
    scripts: dict[int, str] = {}
    for entry in sorted((_FOLDER / "migrations").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            scripts[int(entry.name.split("_", 1)[0])] = entry.read_text(encoding="utf-8")
    return scripts


def _without_comments(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if line.strip() and not line.startswith("--"))


def _expand(body: str, sections: Mapping[str, str]) -> str:
    while _REFERENCE.search(body):
        body = _REFERENCE.sub(lambda match: sections[match[1]], body)
    return body
