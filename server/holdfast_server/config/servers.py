"""`mcpServers`: which downstreams there are, and what their clients' own keys mean here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast_server.config.document import Document, Where
from holdfast_server.config.places import absolute
from holdfast_server.config.problems import Findings
from holdfast_server.config.sections import Sections
from holdfast_server.config.shape import ServerShape
from holdfast_tools.downstream.spec import DownstreamSpec, HttpSpec, Isolation, StdioSpec

SECTION = "mcpServers"

FOREIGN_KEYS = frozenset(
    {
        "type", "disabled", "enabled", "autoApprove", "alwaysAllow", "disabledTools", "enabledTools", "includeTools",
        "excludeTools", "tools", "timeout", "timeoutMs", "requestTimeout", "startupTimeout", "startup_timeout_sec",
        "tool_timeout_sec", "description", "name", "title", "note", "notes", "comment", "icon", "iconUrl", "version",
        "gallery", "source", "transport", "transportType", "trust", "auth", "oauth", "authProviderType", "envFile",
        "dev", "debug", "sandbox", "sandboxEnabled", "initializationOptions", "bearer_token_env_var", "isActive",
        "provider", "providerUrl", "logoUrl", "tags", "shouldConfig", "longRunning", "registryUrl", "headersHelper",
    }
)  # fmt: skip
"""Keys of an entry that belong to one MCP client or another: accepted, reported, without effect unless said below."""

_FOREIGN_MENDS = {
    "timeout": "set `tools: ... timeout` for calls, or `connect_timeout` here",
    "envFile": "name its variables in `env`",
    "alwaysAllow": "write a rule with `effect: allow`",
    "autoApprove": "write a rule with `effect: allow`",
    "disabledTools": "write a rule with `effect: deny`",
    "excludeTools": "write a rule with `effect: deny`",
    "auth": "send the credentials in `headers`",
    "oauth": "send the credentials in `headers`",
}

MAX_NAME_LENGTH = 50

_NAME = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Servers:
    """The downstreams to run, and the names of those that the file has but leaves out.

    `undecided` are those of the downstreams whose isolation the file does not say.
    """

    downstreams: tuple[DownstreamSpec, ...]
    disabled: frozenset[str]
    unusable: frozenset[str]
    undecided: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name the file mentions, disabled and broken ones included."""
        running = {spec.name for spec in self.downstreams}
        return tuple(sorted(running | self.disabled | self.unusable))

    def isolated_by_default(self, isolation: Isolation) -> tuple[DownstreamSpec, ...]:
        """The downstreams to run, with `isolation` where the file does not say."""
        return tuple(
            replace(spec, isolation=isolation) if spec.name in self.undecided else spec for spec in self.downstreams
        )


def read_servers(document: Document, sections: Sections, findings: Findings, folder: Path) -> Servers:
    """The entries of `mcpServers`. Relative paths mean `folder`."""
    if SECTION not in document.data:
        findings.problem(1, f"there is no {SECTION}", f"add `{SECTION}:` with at least one server")
        return Servers((), frozenset(), frozenset())
    entries = sections.raw_mapping(SECTION)
    if not entries and isinstance(document.data[SECTION], dict | None):
        findings.warning(document.key_line((SECTION,)), "there is no server, and so no tool", "add one")
    running: list[DownstreamSpec] = []
    disabled: set[str] = set()
    unusable: set[str] = set()
    for name, entry in entries.items():
        where = (SECTION, name)
        if isinstance(entry, dict) and _is_disabled(entry):
            findings.warning(
                document.key_line(where), f"the server {name!r} is disabled and left out", "remove `disabled` to use it"
            )
            disabled.add(name)
            continue
        spec = _server(document, sections, findings, folder, where, name, entry)
        if spec is None:
            unusable.add(name)
        else:
            running.append(spec)
    undecided = frozenset(spec.name for spec in running if entries[spec.name].get("isolation") is None)
    return Servers(tuple(running), frozenset(disabled), frozenset(unusable), undecided)


def _is_disabled(entry: Mapping[str, Any]) -> bool:
    return entry.get("disabled") is True or entry.get("enabled") is False or entry.get("isActive") is False


def _server(
    document: Document, sections: Sections, findings: Findings, folder: Path, where: Where, name: str, entry: Any
) -> DownstreamSpec | None:
    fits = _check_name(document, findings, where, name)
    if isinstance(entry, dict):
        _report_foreign(document, findings, where, entry)
        entry = {key: value for key, value in entry.items() if key not in FOREIGN_KEYS}
    shape = sections.read(ServerShape, entry, where)
    if shape is None:
        return None
    transport = _transport(document, findings, folder, where, shape)
    if transport is None or not fits:
        return None
    return DownstreamSpec(
        name,
        transport,
        shape.connect_timeout,
        shape.isolation or "shared",
        shape.max_sessions,
        shape.max_concurrency,
        shape.max_queue,
    )


def _check_name(document: Document, findings: Findings, where: Where, name: str) -> bool:
    line = document.key_line(where)
    if name == "holdfast":
        findings.problem(line, "the server name 'holdfast' is reserved for Holdfast's own tools", "rename the server")
        return False
    if len(name) > MAX_NAME_LENGTH:
        findings.problem(line, f"the server name {name!r} is longer than {MAX_NAME_LENGTH} characters", "shorten it")
        return False
    if not _NAME.fullmatch(name):
        fitting = fitting_name(name)
        findings.problem(
            line,
            f"the server name {name!r} cannot stand in tool names (letters, digits, - and single _ can)",
            f"rename it to {fitting!r}" if fitting else "rename it",
        )
        return False
    return True


def fitting_name(name: str) -> str:
    """The nearest name that may stand in tool names; empty where `name` has nothing to keep."""
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9-]", "_", name)).strip("_")


def _report_foreign(document: Document, findings: Findings, where: Where, entry: Mapping[str, Any]) -> None:
    foreign = [key for key in entry if key in FOREIGN_KEYS]
    if not foreign:
        return
    mends = dict.fromkeys(_FOREIGN_MENDS[key] for key in foreign if key in _FOREIGN_MENDS)
    findings.warning(
        document.key_line((*where, foreign[0])),
        f"{', '.join(foreign)} of the server {where[-1]!r} belong to another client and have no effect here",
        "; ".join(mends) or "nothing needs to be done",
    )
    kind = next((entry[key] for key in ("type", "transport", "transportType") if isinstance(entry.get(key), str)), "")
    if kind == "sse":
        findings.warning(
            document.line(where),
            f"the server {where[-1]!r} is of type sse, which Holdfast does not speak: streamable HTTP is tried",
            "use the server's streamable HTTP endpoint",
        )


def _transport(
    document: Document, findings: Findings, folder: Path, where: Where, shape: ServerShape
) -> StdioSpec | HttpSpec | None:
    line = document.key_line(where)
    if (shape.command is None) == (shape.url is None):
        both = "both a command and a url" if shape.command else "neither a command nor a url"
        findings.problem(line, f"the server {where[-1]!r} has {both}", "give it one of them")
        return None
    misplaced = ("headers",) if shape.command else ("args", "env", "cwd")
    for key in misplaced:
        if key in shape.model_fields_set:
            findings.problem(
                document.key_line((*where, key)),
                f"{key!r} does not go with {'command' if shape.command else 'url'!r}",
                "remove one of the two",
            )
    if shape.command is not None:
        return _stdio(document, findings, folder, where, shape, shape.command)
    return _http(document, findings, where, shape, shape.url or "")


def _stdio(
    document: Document, findings: Findings, folder: Path, where: Where, shape: ServerShape, command: str
) -> StdioSpec:
    for name in shape.env:
        if not name or "=" in name:
            findings.problem(
                document.key_line((*where, "env", name)), f"{name!r} cannot name an environment variable", "rename it"
            )
    cwd = absolute(shape.cwd, folder) if shape.cwd else folder
    if shape.cwd and not cwd.is_dir():
        findings.warning(document.line((*where, "cwd")), f"there is no folder {cwd}", "create it or correct the path")
    has_folder = "/" in command or command == "~"
    return StdioSpec(
        command=str(absolute(command, folder)) if has_folder else command,
        args=tuple(str(argument) for argument in shape.args),
        env={name: str(value) for name, value in shape.env.items()},
        cwd=str(cwd),
    )


def _http(document: Document, findings: Findings, where: Where, shape: ServerShape, url: str) -> HttpSpec:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        findings.problem(
            document.line((*where, "url")),
            f"the url of {where[-1]!r} is not an http address",
            "write http://host:port/path or https://...",
        )
    for name, value in shape.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            findings.problem(
                document.key_line((*where, "headers", name)),
                f"{name!r} is not a header of one line",
                "remove line breaks and other control characters",
            )
    return HttpSpec(url=str(url), headers={name: str(value) for name, value in shape.headers.items()})
