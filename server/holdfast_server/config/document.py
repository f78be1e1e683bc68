"""A YAML file as plain data that still knows its lines.

Scalars are read by YAML 1.2's core rules, so that JSON means the same here as anywhere: only `true` and `false` are
booleans, `off` and `no` are texts, `1e3` is a number. Keys are texts. Anchors and aliases work; tags and merge keys
do not.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from holdfast_server.config.problems import Findings, Problem
from holdfast_server.config.variables import Expanded

Where = tuple[str | int, ...]
"""A place in the data: keys and list positions from the root."""

MAX_DEPTH = 40
MAX_NODES = 100_000

_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_STR, _MAP, _SEQ = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"

_MAX_DIGITS = 18


class TooDeep(yaml.MarkedYAMLError):
    """The file nests deeper than any config does."""


class _Loader(yaml.SafeLoader):
    """Composes nodes with the core schema's scalars and a bound on nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooDeep(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (_FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def _compose(text: str, findings: Findings) -> yaml.Node | None:
    """The file's one document as nodes; None where it has none or cannot be read."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        findings.problem(line, "a character that YAML does not allow", "remove it")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        findings.problem(line, f"not YAML: {error.problem or error.context}", _syntax_mend(text, line))
    except (ValueError, OverflowError) as error:
        line = loader.get_mark().line + 1 if loader else 0
        findings.problem(line, f"not YAML: {error}", "correct the escape sequence")
    finally:
        if loader is not None:
            loader.dispose()
    return None


def _syntax_mend(text: str, line: int) -> str:
    lines = text.splitlines()
    culprit = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in culprit:
        return "indent with spaces, not tabs"
    if "${" in culprit:
        return 'put the value in quotes: "${NAME}"'
    return "check the quotes, brackets and indentation here and on the line before"


def _joined_surrogates(text: str) -> str:
    """JSON writes characters beyond the basic plane as two escapes; YAML leaves them apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


class Document:
    """The data of one file (`data`), and the line of everything in it.

    Texts have been through `expand`; what it complained of is in `unexpanded`, by place, for the reader to tell or to
    leave untold. `expanded` holds the places of texts that came out of variables. Values below a place that `verbatim`
    accepts are taken as they are written: `PORT: 8080` in an `env` is the text "8080".
    """

    def __init__(
        self,
        text: str,
        findings: Findings,
        *,
        expand: Callable[[str, Callable[[str, str], None]], str],
        verbatim: Callable[[Where], bool],
    ) -> None:
        self._findings = findings
        self._expand = expand
        self._verbatim = verbatim
        self._lines: dict[Where, int] = {}
        self._key_lines: dict[Where, int] = {}
        self._remaining = MAX_NODES
        self.unexpanded: list[tuple[Where, Problem]] = []
        self.expanded: set[Where] = set()
        root = _compose(_spaces_for_json(text), findings)
        self.data: Any = None if root is None else self._value(root, ())

    def line(self, where: Where) -> int:
        """The line of the value at `where`, or of the nearest thing around it."""
        return self._find(self._lines, where)

    def key_line(self, where: Where) -> int:
        """The line of the key at `where`; of the value where it has none."""
        return self._key_lines.get(where) or self.line(where)

    def mapping(self, where: Where) -> Mapping[str, Any]:
        """The mapping at `where`, empty where there is none."""
        found: Any = self.data
        for step in where:
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _find(self, lines: Mapping[Where, int], where: Where) -> int:
        while where and where not in lines:
            where = where[:-1]
        return lines.get(where, 1)

    def _value(self, node: yaml.Node, where: Where) -> Any:
        line = node.start_mark.line + 1
        self._lines[where] = line
        self._remaining -= 1
        if self._remaining < 0 or len(where) > MAX_DEPTH:
            self._stop(line, "aliases make this file too large or endless", "write the values out")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self._value(item, (*where, position)) for position, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in (_NULL, _BOOL, _INT, _FLOAT, _STR):
            return self._scalar(node, where, line)
        self._findings.problem(line, f"the tag {node.tag!r} means nothing here", "remove it")
        return None

    def _stop(self, line: int, cause: str, mend: str) -> None:
        self._findings.problem(line, cause, mend)
        raise Unreadable

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _NULL:
                self._findings.problem(line, "a key must be a text", "write a name before the colon")
                continue
            key = self._text(key_node.value, line)
            if key == "<<" and not key_node.style:
                self._findings.problem(line, "merge keys (<<) are not supported", "write the keys out")
                continue
            if key in result:
                self._findings.problem(
                    line, f"the key {key!r} stands here twice", f"remove one (the first is on line {first_lines[key]})"
                )
                continue
            first_lines[key] = line
            self._key_lines[*where, key] = line
            result[key] = self._value(value_node, (*where, key))
        return result

    def _scalar(self, node: yaml.ScalarNode, where: Where, line: int) -> Any:
        if node.tag == _STR or (node.tag != _NULL and self._verbatim(where)):
            return self._expanded_text(self._text(node.value, line), where, line)
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return str(node.value).lower() == "true"
        if len(node.value) > _MAX_DIGITS:
            self._findings.problem(line, f"the number {node.value[:_MAX_DIGITS]}... is too long", "shorten it")
            return 0
        try:
            return int(node.value) if node.tag == _INT else float(node.value)
        except ValueError:
            self._findings.problem(line, f"{node.value!r} is not a number", "write a number")
            return 0

    def _expanded_text(self, text: str, where: Where, line: int) -> str:
        expanded = self._expand(text, lambda cause, mend: self.unexpanded.append((where, Problem(line, cause, mend))))
        if isinstance(expanded, Expanded):
            self.expanded.add(where)
        return expanded

    def _text(self, text: str, line: int) -> str:
        if "\0" in text:
            self._findings.problem(line, "a text with a NUL character", "remove the \\0")
            return text.replace("\0", "")
        try:
            return _joined_surrogates(text)
        except UnicodeDecodeError:
            self._findings.problem(line, "half of a surrogate pair in a text", "write the character itself")
            return text.encode("utf-8", "replace").decode()


class Unreadable(Exception):
    """Reading stopped early; the findings say why."""


def _spaces_for_json(text: str) -> str:
    """JSON may be indented with tabs and YAML may not; within JSON every raw tab is indentation."""
    if "\t" not in text or not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")
