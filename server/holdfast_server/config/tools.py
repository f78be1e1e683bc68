"""`tools` and `trust_annotations`: settings by glob, and whose hints are believed."""

import re
from collections.abc import Iterable
from typing import Any

from holdfast_policy.annotations import HINTS
from holdfast_server.config.document import Document
from holdfast_server.config.problems import Findings, nearest, suggestion
from holdfast_server.config.quantities import words_for
from holdfast_server.config.sections import Sections
from holdfast_server.config.shape import AnnotationsShape, OrderShape, ToolShape
from holdfast_tools.settings import Order, ToolPattern

OWN_TOOLS = "holdfast__"

LONGEST_NAME = 64

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}")


def read_patterns(
    document: Document, sections: Sections, findings: Findings, servers: Iterable[str]
) -> tuple[ToolPattern, ...]:
    """The entries of `tools` in the order of the file."""
    patterns: list[ToolPattern] = []
    for glob, shape in sections.mapping("tools", ToolShape).items():
        line = document.key_line(("tools", glob))
        if shape.name is not None:
            _check_chosen_name(glob, shape.name, document.line(("tools", glob, "name")), findings)
        if check_glob(glob, line, findings, servers):
            patterns.append(ToolPattern(glob, _fields(shape)))
    return tuple(patterns)


def hints(shape: AnnotationsShape) -> dict[str, bool]:
    """The hints that were written down, by their MCP names."""
    return {hint: value for hint in HINTS if (value := getattr(shape, hint)) is not None}


def _fields(shape: ToolShape) -> dict[str, Any]:
    """What the entry sets, under the names of `ToolSettings`."""
    named: dict[str, tuple[str, Any]] = {
        "name": ("name", shape.name),
        "annotations": ("annotations", hints(shape.annotations)),
        "strict": ("strict", shape.strict),
        "timeout": ("timeout_s", shape.timeout),
        "deadline": ("deadline_s", shape.deadline),
        "inline_wait": ("inline_wait_s", shape.inline_wait),
        "retries": ("max_attempts", shape.retries.max_attempts),
        "dedupe": ("dedupe", shape.dedupe == "on"),
        "join_window": ("join_window_s", shape.join_window),
        "key_argument": ("key_argument", shape.key_argument),
        "forward_key": ("forward_key", shape.forward_key),
        "max_result_bytes": ("max_result_bytes", shape.max_result_bytes),
        "check_output": ("check_output", shape.check_output == "on"),
        "journal": ("journal_strict", shape.journal == "strict"),
        "task": ("task", shape.task),
        "order": ("order", _order(shape.order)),
    }
    return {name: value for key, (name, value) in named.items() if key in shape.model_fields_set}


def _order(shape: OrderShape | None) -> Order | None:
    return None if shape is None else Order(shape.by)


def _check_chosen_name(glob: str, name: str, line: int, findings: Findings) -> None:
    """One name is for one tool, and one that clients take."""
    if any(character in "*?[" for character in glob):
        findings.problem(
            line, f"tools.{glob}.name: {glob!r} fits several tools, and a name is for one", "name the tool"
        )
    if name.startswith(OWN_TOOLS) or not _NAME.fullmatch(name):
        mend = f"use letters, digits, - and _, at most {LONGEST_NAME}, not beginning with {OWN_TOOLS}"
        findings.problem(line, f"tools.{glob}.name: clients cannot use the name {name!r}", mend)


def check_glob(glob: str, line: int, findings: Findings, servers: Iterable[str]) -> bool:
    """Whether `glob` may be used; warns where it fits no tool of any server."""
    if glob.startswith(OWN_TOOLS):
        findings.problem(line, f"{glob!r} means Holdfast's own tools, which take no settings and no rules", "remove it")
        return False
    names = list(servers)
    if names and not any(can_begin_with(glob, f"{name}__") for name in names):
        close = nearest(glob.partition("__")[0], names)
        findings.warning(
            line,
            f"{glob!r} fits no tool: none begins with a configured server's name",
            f"did you mean {close + '__...'!r}?" if close else f"begin with one of {', '.join(names)}, then __",
        )
    return True


def can_begin_with(glob: str, prefix: str) -> bool:
    """Whether the `fnmatchcase` pattern `glob` can match some text that begins with `prefix`."""
    positions = {0}
    for character in prefix:
        positions = {after for position in positions for after in _steps(glob, position, character)}
        if not positions:
            return False
    return True


def _steps(glob: str, position: int, character: str) -> Iterable[int]:
    """Where a match can stand in `glob` after `character`."""
    if position >= len(glob):
        return
    kind = glob[position]
    if kind == "*":
        yield position
        yield from _steps(glob, position + 1, character)
    elif kind == "?":
        yield position + 1
    elif kind == "[" and (end := glob.find("]", position + 2)) > 0:
        # A class is taken to match anything: this only decides about a warning.
        yield end + 1
    elif kind == character:
        yield position + 1


def read_trust(
    document: Document, sections: Sections, findings: Findings, servers: tuple[str, ...]
) -> dict[str, frozenset[str]]:
    """`trust_annotations`: for each server named, the hints whose every value is believed."""
    trust: dict[str, frozenset[str]] = {}
    for server, names in sections.raw_mapping("trust_annotations").items():
        where = ("trust_annotations", server)
        if server not in servers:
            findings.problem(
                document.key_line(where),
                f"trust_annotations: there is no server {server!r}",
                suggestion(server, servers),
            )
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            findings.problem(
                document.line(where),
                f"trust_annotations.{server}: expected a list of hints, found {words_for(names)}",
                f"write [{', '.join(HINTS[:2])}]",
            )
            continue
        for position, name in enumerate(names):
            if name not in HINTS:
                findings.problem(
                    document.line((*where, position)),
                    f"trust_annotations.{server}: unknown hint {name!r}",
                    suggestion(name, HINTS),
                )
        trust[server] = frozenset(names)
    return trust
