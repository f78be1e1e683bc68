"""A client's entry for a server as Holdfast writes it: the same command, with variables in Holdfast's own spelling.

References to variables stay references; what was a literal stays one. Whatever cannot mean the same here stays with
the client, and is told.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast_server.cli.clients import Client, Dialect, Place
from holdfast_server.cli.literal_secrets import literal_secrets
from holdfast_server.config.servers import FOREIGN_KEYS, MAX_NAME_LENGTH, fitting_name
from holdfast_store.model.values import Json

OWN_NAME = "holdfast"

_KEPT = ("command", "args", "env", "cwd", "url", "headers", "disabled")
_TRANSPORTS = frozenset({"type", "transport", "transportType"})
_WITHOUT_MEANING = frozenset(
    {"description", "name", "title", "note", "notes", "comment", "icon", "iconUrl", "version", "gallery", "source",
     "dev", "debug", "provider", "providerUrl", "logoUrl", "tags", "registryUrl"}
)  # fmt: skip
"""Keys whose loss nobody notices."""

_REFERENCE = re.compile(r"\$\{(?P<body>[^}]*)\}")
_ENVIRONMENT = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_INPUT = re.compile(r"input:(?P<id>.+)")


@dataclass(slots=True)
class Imported:
    """One server. `entry` is its `mcpServers` entry for Holdfast; `passed` maps the variables that it refers to, to how
    the client itself writes them, None where the client has no way to."""

    name: str
    original_name: str
    entry: Json
    notes: list[str] = field(default_factory=list)
    passed: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Import:
    """What a place holds. `kept` are the entries that stay with the client, each with the reason."""

    servers: tuple[Imported, ...]
    own: Mapping[str, Json]
    kept: Mapping[str, str]


class _Untranslatable(Exception):
    """Why an entry stays with its client."""


def translate(place: Place, entries: Mapping[str, Any]) -> Import:
    """The servers of `entries` as Holdfast writes them."""
    servers: list[Imported] = []
    own: dict[str, Json] = {}
    kept: dict[str, str] = {}
    taken = {OWN_NAME}
    for original_name, entry in entries.items():
        if is_own(entry):
            own[original_name] = entry
            continue
        try:
            imported = _server(place, original_name, entry)
        except _Untranslatable as reason:
            kept[original_name] = str(reason)
            continue
        imported.name = _free(imported.name, taken)
        taken.add(imported.name)
        if imported.name != original_name:
            imported.notes.append(f"named {imported.name!r} here: a server's name begins the names of its tools")
        servers.append(imported)
    return Import(tuple(servers), own, kept)


def is_own(entry: Any) -> bool:
    """Whether a client's entry starts Holdfast."""
    if not isinstance(entry, dict) or not isinstance(entry.get("command"), str):
        return False
    words = [entry["command"].replace("\\", "/").rpartition("/")[2], *_texts(entry.get("args"))]
    return "serve" in words[1:] and any(word in ("holdfast", "holdfast.exe", "holdfast_server") for word in words)


def _free(name: str, taken: set[str]) -> str:
    """`name`, or the first of `name-2`, `name-3`, ... that is not taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name[: MAX_NAME_LENGTH - len(str(number)) - 1]}-{number}"
    return candidate


def _server(place: Place, original_name: str, entry: Any) -> Imported:
    if not isinstance(entry, dict):
        raise _Untranslatable("its entry is no object")
    name = fitting_name(original_name)[:MAX_NAME_LENGTH].strip("_")
    if not name:
        raise _Untranslatable("its name has no letter or digit that a tool's name may have; rename it")
    has_command, has_url = (isinstance(entry.get(key), str) and bool(entry[key]) for key in ("command", "url"))
    if has_command == has_url:
        raise _Untranslatable(
            "it has both a command and a url" if has_command else "it has neither a command nor a url"
        )
    imported = Imported(name, original_name, {})
    text = _Texts(place, imported)
    for key in _KEPT:
        if key in entry and entry[key] is not None:
            imported.entry[key] = _value(key, entry[key], text)
    _place(place, imported.entry)
    if entry.get("disabled") is True or entry.get("enabled") is False or entry.get("isActive") is False:
        imported.entry["disabled"] = True
        imported.notes.append("it is disabled, and stays so until `disabled` is removed")
    imported.notes.extend(_losses(entry))
    imported.notes.extend(literal_secrets(imported.entry))
    return imported


def _value(key: str, value: Any, text: Callable[[Any], str]) -> Any:
    match key:
        case "disabled":
            return bool(value)
        case "args":
            if not isinstance(value, list):
                raise _Untranslatable("its args are no list")
            return [text(item) for item in value]
        case "env" | "headers":
            if not isinstance(value, dict):
                raise _Untranslatable(f"its {key} are no object")
            return {name: text(item) for name, item in value.items() if item is not None}
    return text(value)


def _place(place: Place, entry: Json) -> None:
    """A project's servers start in the project's folder, which need not be the config's."""
    if place.folder is None or "command" not in entry:
        return
    entry["cwd"] = str(place.folder / entry["cwd"]) if "cwd" in entry else str(place.folder)
    command = entry["command"]
    if "/" in command and not command.startswith(("/", "~", "$")):
        entry["command"] = str(place.folder / command)


class _Texts:
    """Rewrites the references in one server's texts."""

    def __init__(self, place: Place, imported: Imported) -> None:
        self._place = place
        self._imported = imported

    def __call__(self, value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            raise _Untranslatable("it holds a value that is no text")
        return _REFERENCE.sub(self._reference, str(value))

    def _reference(self, found: re.Match[str]) -> str:
        body = found["body"]
        match self._place.client.dialect:
            case Dialect.SHELL:
                name = body.partition(":-")[0]
                self._pass(name, "${" + body + "}")
                return found[0]
            case Dialect.NONE:
                return self._literal(found[0])
        environment, asked = _ENVIRONMENT.fullmatch(body), _INPUT.fullmatch(body)
        if environment is not None:
            self._pass(environment["name"], found[0])
            return f"${{{environment['name']}}}"
        if asked is not None:
            name = re.sub(r"[^A-Za-z0-9_]", "_", asked["id"]).upper()
            name = name if not name[:1].isdigit() else f"_{name}"
            self._pass(name, found[0])
            return f"${{{name}}}"
        return self._predefined(found[0], body)

    def _predefined(self, whole: str, body: str) -> str:
        folder = self._place.folder
        match body:
            case "userHome":
                self._pass("HOME", None)
                return "${HOME}"
            case "pathSeparator" | "/":
                return "/"
            case "workspaceFolder" | "workspaceFolderBasename" if folder is None:
                raise _Untranslatable(f"{whole} means another folder in every window, and Holdfast serves all of them")
            case "workspaceFolder":
                return str(folder)
            case "workspaceFolderBasename" if folder is not None:
                return folder.name
        if ":" in body:
            raise _Untranslatable(f"{whole} is known to {self._place.client.title} alone")
        return self._literal(whole)

    def _literal(self, whole: str) -> str:
        self._imported.notes.append(
            f"{self._place.client.title} passes {whole} on as it stands, and so does the config; "
            f"write {whole} without the second $ to have Holdfast fill it in"
        )
        return f"${whole}"

    def _pass(self, name: str, written: str | None) -> None:
        self._imported.passed.setdefault(name, written)


def _losses(entry: Json) -> Iterator[str]:
    """What an entry says that has no meaning here."""
    lost = [key for key in entry if key not in _KEPT and key not in _TRANSPORTS and key not in _WITHOUT_MEANING]
    lost = [key for key in lost if key not in ("enabled", "isActive")]
    if lost:
        known = [key for key in lost if key in FOREIGN_KEYS]
        words = ", ".join(lost)
        yield f"left behind, without effect here: {words}" if known else f"left behind, not known here: {words}"
    kind = next((entry[key] for key in sorted(_TRANSPORTS) if isinstance(entry.get(key), str)), "")
    if kind == "sse":
        yield "it is of type sse, which Holdfast does not speak: streamable HTTP is tried at the same url"


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def passed_environment(client: Client, servers: tuple[Imported, ...]) -> dict[str, str]:
    """The `env` with which the client's entry for Holdfast hands on the variables that the servers refer to."""
    if client.dialect is Dialect.NONE:
        return {}
    written = {name: how for server in servers for name, how in server.passed.items() if how is not None}
    return dict(sorted(written.items()))
