"""Reading the sections of a document through their shapes, with every misfit as a sentence on its line."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from holdfast_server.config.document import Document, Where
from holdfast_server.config.problems import Findings, suggestion
from holdfast_server.config.quantities import words_for
from holdfast_server.config.shape import FOREIGN_TOP_LEVEL, NOT_IN_THIS_VERSION, TOP_LEVEL_SECTIONS, GatewayShape, Shape

ShapeT = TypeVar("ShapeT", bound=Shape)

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "mapping_type": "a mapping",
}


class Sections:
    """The sections of one document. What does not fit is told to the findings and left out."""

    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings

    def top_level(self) -> GatewayShape:
        """The scalar keys of the file, after every key was checked to be known."""
        data = self._document.data
        known = [*TOP_LEVEL_SECTIONS, *GatewayShape.model_fields]
        for key in data:
            if key in FOREIGN_TOP_LEVEL:
                line = self._document.key_line((key,))
                self._findings.warning(line, f"{key!r} belongs to a client and has no effect here", "it may be removed")
            elif key not in known:
                self._unknown((key,), known)
        given = [{key: data[key]} for key in GatewayShape.model_fields if key in data]
        fitting = [one for one in given if self.read(GatewayShape, one, ()) is not None]
        return GatewayShape.model_validate({key: value for one in fitting for key, value in one.items()})

    def section(self, key: str, shape: type[ShapeT]) -> ShapeT:
        """The mapping under `key`, with all defaults where there is none."""
        value = self._document.data.get(key)
        return shape() if value is None else self.read(shape, value, (key,)) or shape()

    def mapping(self, key: str, shape: type[ShapeT]) -> dict[str, ShapeT]:
        """The mapping of names to `shape` under `key`; an entry without a value has all defaults."""
        entries = {
            name: self.read(shape, {} if value is None else value, (key, name))
            for name, value in self.raw_mapping(key).items()
        }
        return {name: entry for name, entry in entries.items() if entry is not None}

    def sequence(self, key: str, shape: type[ShapeT]) -> list[tuple[Where, ShapeT]]:
        """The list of `shape` under `key`, each entry with its place."""
        value = self._document.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._expected((key,), "a list", value)
            return []
        entries = [((key, position), self.read(shape, item, (key, position))) for position, item in enumerate(value)]
        return [(where, entry) for where, entry in entries if entry is not None]

    def raw_mapping(self, key: str) -> Mapping[str, Any]:
        """The mapping under `key` as it is, empty where there is none."""
        value = self._document.data.get(key)
        if value is not None and not isinstance(value, dict):
            self._expected((key,), "a mapping", value)
        return value if isinstance(value, dict) else {}

    def read(self, shape: type[ShapeT], value: Any, where: Where) -> ShapeT | None:
        """`value` as `shape`, or None with its problems told."""
        try:
            return TypeAdapter(shape).validate_python(value)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._tell(shape, where, details)
            return None

    def _expected(self, where: Where, expected: str, found: Any) -> None:
        self._findings.problem(
            self._document.line(where),
            f"{words_at(where)}: expected {expected}, found {words_for(found)}",
            "correct it",
        )

    def _unknown(self, where: Where, known: list[str]) -> None:
        key = str(where[-1])
        line = self._document.key_line(where)
        if key in NOT_IN_THIS_VERSION:
            cause = f"{words_at(where)}: this version of Holdfast does not have {NOT_IN_THIS_VERSION[key]}"
            self._findings.problem(line, cause, "remove the key")
            return
        around = words_at(where[:-1])
        place = f" in {around}" if around else ""
        self._findings.problem(line, f"unknown key {key!r}{place}", suggestion(key, known))

    def _tell(self, shape: type[Shape], base: Where, details: ErrorDetails) -> None:
        where: Where = (*base, *details["loc"])
        kind, context = details["type"], details.get("ctx", {})
        if kind == "extra_forbidden":
            self._unknown(where, _known_keys(shape, details["loc"][:-1]))
        elif kind == "missing":
            self._findings.problem(
                self._document.line(where[:-1]),
                f"{words_at(where[:-1])} has no {where[-1]!r}",
                f"add {where[-1]}: ...",
            )
        elif kind == "holdfast":
            line = self._document.line(where)
            self._findings.problem(line, f"{words_at(where)}: {context['cause']}", str(context["mend"]))
        elif kind in _EXPECTED:
            self._expected(where, _EXPECTED[kind], details["input"])
        else:
            line = self._document.line(where)
            self._findings.problem(line, f"{words_at(where)}: {_bound(kind, context, details)}", "correct it")


def _bound(kind: str, context: Mapping[str, Any], details: ErrorDetails) -> str:
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, found {words_for(details['input'])}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, found {words_for(details['input'])}"
        case "string_too_short" | "too_short":
            return "must not be empty"
    return details["msg"]


def _known_keys(shape: type[Shape], steps: tuple[str | int, ...]) -> list[str]:
    """The keys of the mapping that `steps` lead to from `shape`."""
    for step in steps:
        nested = _shape_in(shape.model_fields[step].annotation) if step in shape.model_fields else None
        if nested is None:
            return []
        shape = nested
    return list(shape.model_fields)


def _shape_in(annotation: Any) -> type[Shape] | None:
    """The shape that an annotation is, or offers beside None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Shape):
            return candidate
    return None


def words_at(where: Where) -> str:
    """A place as people write it: ``rules[2].match``."""
    words = ""
    for step in where:
        words += f"[{step}]" if isinstance(step, int) else f".{step}" if words else str(step)
    return words
