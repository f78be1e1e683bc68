"""Conditions of rules: CEL expressions over `args`, `tool`, `server` and `principal`.

    args        map: the call's arguments
    tool        string: the canonical ``server__tool``
    server      string: the downstream's name
    principal   map: ``id`` and ``tenant`` (strings), ``roles`` (list of strings, sorted)

They are compiled once, when the config is loaded, and type-checked as far as is known: members of `args` are dynamic.
Numbers compare across types (``args.amount > 100`` holds for 100.5); arithmetic does not mix them, so that
``args.amount * 2`` fails for 100.5 where ``double(args.amount) * 2.0`` does not. A missing argument makes the condition
fail, unless ``has(args.x)`` guards it or the rest of an ``&&`` or ``||`` decides without it.

Evaluation is bounded (the runtime has an iteration budget, regular expressions are RE2's) and never changes what it
is given.
"""

import re
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel

from holdfast_policy.names import nearest, suggestion
from holdfast_policy.syntax import Call, Constant, Expression, UnreadableSyntax, parse, walk
from holdfast_store.model.values import Json, Principal

VARIABLES = ("args", "tool", "server", "principal")

MAX_DEPTH = 200
"""Arguments nested deeper than this are not evaluated: the runtime converts them recursively on the C stack."""

_ENVIRONMENT = cel.NewEnv(
    variables={
        "args": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "tool": cel.Type.STRING,
        "server": cel.Type.STRING,
        "principal": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    }
)
_TEXT_MATCHES = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING}).compile(
    "text.matches(pattern)"
)

_POSITION = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<message>[^\n]*)")
_UNDECLARED = re.compile(r"undeclared reference to '(?P<name>[^']+)'")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_LONGEST_REASON = 200
_MACROS = ("all", "exists", "exists_one", "filter", "has", "map")
_CONVERSIONS = ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
_TEXT = ("contains", "endsWith", "matches", "size", "startsWith")
_TIMES = (
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
)
_FUNCTIONS = (*_MACROS, *_CONVERSIONS, *_TEXT, *_TIMES)


class BrokenCondition(ValueError):
    """The text is no condition: `str(error)` says where and why."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A condition has neither held nor not held. `why` is a clause for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Bindings:
    """What the conditions of one call look at, shared by all of them."""

    activation: Any


class Condition:
    """One compiled condition. `tree` is its syntax, for checks against schemas."""

    __slots__ = ("_evaluate", "text", "tree")

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `BrokenCondition` on a syntax or type error and where it does not yield a bool."""
        try:
            compiled = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise BrokenCondition(_compile_error(text, str(error))) from error
        yields = compiled.return_type()
        if yields == cel.Type.DYN:
            raise BrokenCondition("what it yields is known only when it runs: compare it, as in `args.x == true`")
        if yields != cel.Type.BOOL:
            raise BrokenCondition(f"it yields {yields.name().lower()}, not true or false")
        try:
            self.tree: Expression = parse(compiled.serialize())
        except UnreadableSyntax as error:
            raise BrokenCondition(str(error)) from error
        self.text = text
        self._evaluate = compiled.eval
        for pattern in _literal_patterns(self.tree):
            problem = pattern_problem(pattern)
            if problem is not None:
                raise BrokenCondition(f"{pattern!r} is not a regular expression (RE2): {problem}")

    def holds(self, bindings: Bindings) -> bool | Failed:
        """Evaluate. Anything but a bool is `Failed`: a missing key, an overflow, the iteration budget."""
        try:
            value = self._evaluate(bindings.activation).value()
        except Exception as error:  # the runtime throws what its C++ side throws: all of it is a failed condition
            return Failed(_without_status(str(error)))
        if value is True or value is False:
            return bool(value)
        if isinstance(value, str):
            return Failed(_without_status(value))
        return Failed(f"it yields {type(value).__name__}, not true or false")


def bind(tool: str, server: str, principal: Principal, arguments: Json) -> Bindings | Failed:
    """Make one call visible to conditions. `Failed` where the arguments cannot be shown to them."""
    if not _shallow(arguments):
        return Failed(f"the arguments are nested deeper than {MAX_DEPTH} levels")
    who = {"id": principal.id, "roles": sorted(principal.roles), "tenant": principal.tenant}
    data = {"args": arguments, "tool": tool, "server": server, "principal": who}
    try:
        return Bindings(_ENVIRONMENT.Activation(data))
    except Exception as error:  # as in `Condition.holds`
        return Failed(_without_status(str(error)))


def text_matches(pattern: str, text: str) -> bool | None:
    """Whether `pattern` (RE2, so in linear time) occurs in `text`; None where it is not a valid pattern."""
    try:
        found = _TEXT_MATCHES.eval(data={"text": text, "pattern": pattern}).value()
    except RuntimeError:
        return None
    return found if isinstance(found, bool) else None


def pattern_problem(pattern: str) -> str | None:
    """Why `pattern` is not valid RE2; None where it is."""
    found = _TEXT_MATCHES.eval(data={"text": "", "pattern": pattern}).value()
    return None if isinstance(found, bool) else _without_status(str(found))


def _literal_patterns(tree: Expression) -> list[str]:
    return [
        call.arguments[-1].value
        for call in walk(tree)
        if isinstance(call, Call) and call.function == "matches"
        if isinstance(call.arguments[-1], Constant) and isinstance(call.arguments[-1].value, str)
    ]


def _shallow(arguments: Json) -> bool:
    layer: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        layer = [
            child
            for container in layer
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return True
    return False


def _compile_error(source: str, text: str) -> str:
    found = _POSITION.search(text)
    if found is None:
        return _without_status(text)
    message = found["message"].partition(" expecting {")[0].removesuffix(" [INVALID_ARGUMENT]")
    message = message.replace(" (in container '')", "").replace("mismatched input '<EOF>'", "unexpected end")
    undeclared = _UNDECLARED.search(message)
    if undeclared:
        at_call = source.split("\n")[int(found["line"]) - 1][int(found["column"]) - 1 :].startswith("(")
        message = _unknown_function(undeclared["name"]) if at_call else _unknown_variable(undeclared["name"])
    return f"line {found['line']}, column {found['column']}: {message}"


def _unknown_variable(name: str) -> str:
    close = nearest(name.partition(".")[0], VARIABLES)
    if close is not None:
        return f"there is no variable {name}; did you mean {close}?"
    return f"there is no variable {name}, only {', '.join(VARIABLES)}; an argument is written args.{name}"


def _unknown_function(name: str) -> str:
    return f"there is no function {name}{suggestion(name, _FUNCTIONS)}"


def _without_status(text: str) -> str:
    """One line without the status codes that the runtime wraps around its messages."""
    return _STATUS.sub("", " ".join(text.split()))[:_LONGEST_REASON]
