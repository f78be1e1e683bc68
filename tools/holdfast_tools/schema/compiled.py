"""One tool's input schema, compiled: what is broken is told once, what does not fit on every call."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
from jsonschema_rs import FancyRegexOptions, RegexOptions

from holdfast_store.model.errors import HoldfastError
from holdfast_store.model.values import Json
from holdfast_tools.schema.canonical import unrepresentable
from holdfast_tools.schema.names import marked, outline, unknown_names
from holdfast_tools.schema.pointers import pointer
from holdfast_tools.schema.wording import Problem, explain, unknown_property

MAX_PROBLEMS = 20
BACKTRACK_LIMIT = 100_000
"""Steps that a pattern with look-around may take on one string; without look-around, patterns are linear."""


class BrokenSchema(HoldfastError):
    """A schema that nothing can be checked against. `str(error)` says why."""

    code = "broken_schema"


class _Dialect(NamedTuple):
    name: str
    uri: str
    validator: type[jsonschema_rs.Validator]


_DRAFT_2020 = _Dialect("2020-12", "https://json-schema.org/draft/2020-12/schema", jsonschema_rs.Draft202012Validator)
_DIALECTS = (
    _DRAFT_2020,
    _Dialect("2019-09", "https://json-schema.org/draft/2019-09/schema", jsonschema_rs.Draft201909Validator),
    _Dialect("draft-07", "http://json-schema.org/draft-07/schema#", jsonschema_rs.Draft7Validator),
    _Dialect("draft-06", "http://json-schema.org/draft-06/schema#", jsonschema_rs.Draft6Validator),
    _Dialect("draft-04", "http://json-schema.org/draft-04/schema#", jsonschema_rs.Draft4Validator),
)


def _plain_uri(uri: str) -> str:
    return uri.removeprefix("https://").removeprefix("http://").rstrip("#")


_BY_URI = {_plain_uri(dialect.uri): dialect for dialect in _DIALECTS} | {"json-schema.org/schema": _DRAFT_2020}


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A compiled input schema. `strict` refuses properties that the schema does not speak of."""

    schema: Json
    strict: bool
    _validator: jsonschema_rs.Validator
    _outline: jsonschema_rs.Validator | None

    @classmethod
    def compile(cls, schema: Any, *, strict: bool) -> "ToolSchema":
        """Compile `schema` by the draft its `$schema` names, 2020-12 where it names none. Fetches nothing.

        Raises BrokenSchema where it is no schema, of an unknown draft, or refers to what it does not hold.
        """
        if not isinstance(schema, dict):
            raise BrokenSchema(f"the schema is {type(schema).__name__}, and must be an object")
        dialect = _dialect(schema.get("$schema"))
        try:
            _check_against_meta_schema(schema, dialect)
            validator = _build(marked(schema) if strict else schema, dialect)
            return cls(schema, strict, validator, _outline(schema, dialect) if strict else None)
        except RecursionError:
            raise BrokenSchema("the schema is nested too deeply, or refers to itself without end") from None

    def problems(self, arguments: Any) -> tuple[Problem, ...]:
        """What is wrong with `arguments`, at most 20 problems; empty means that they fit."""
        try:
            if not self.strict and self._validator.is_valid(arguments):
                return ()
            evaluation = self._validator.evaluate(arguments)
            if evaluation.valid:
                found = self._unknown(evaluation.annotations(), arguments)
            else:
                found = self._explained(arguments)
            return _first(found)
        except ValueError as error:
            named = _first(Problem(place, sentence) for place, sentence in unrepresentable(arguments))
            return named or (Problem("", f"the arguments are not JSON: {error}"),)

    def _explained(self, arguments: Any) -> Iterator[Problem]:
        if self._outline is not None:
            yield from self._unknown(self._outline.evaluate(arguments).annotations(), arguments)
        for error in self._validator.iter_errors(arguments):
            yield from explain(error, self.schema)

    def _unknown(self, annotations: list[Any], arguments: Any) -> Iterator[Problem]:
        for unknown in unknown_names(annotations, arguments, self.schema):
            yield Problem(pointer(unknown.path), unknown_property(unknown.name, unknown.candidates))


def _dialect(uri: Any) -> _Dialect:
    if uri is None:
        return _DRAFT_2020
    dialect = _BY_URI.get(_plain_uri(str(uri)))
    if dialect is None:
        known = ", ".join(dialect.name for dialect in _DIALECTS)
        raise BrokenSchema(f"$schema names {uri!r}, which is none of the known drafts: {known}")
    return dialect


def _check_against_meta_schema(schema: Json, dialect: _Dialect) -> None:
    try:
        jsonschema_rs.meta.validate({**schema, "$schema": dialect.uri})
    except jsonschema_rs.ValidationError as error:
        problem = next(explain(error, {}))
        raise BrokenSchema(f"not a JSON Schema ({dialect.name}): {problem}") from None


def _build(schema: Json, dialect: _Dialect) -> jsonschema_rs.Validator:
    """The validator, with linear-time patterns where they suffice and bounded backtracking where they do not."""
    try:
        return _validator(schema, dialect, RegexOptions())
    except jsonschema_rs.ValidationError:
        pass
    try:
        return _validator(schema, dialect, FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise BrokenSchema(_compile_reason(error)) from None


def _validator(schema: Json, dialect: _Dialect, patterns: RegexOptions | FancyRegexOptions) -> jsonschema_rs.Validator:
    return dialect.validator(schema, validate_formats=True, pattern_options=patterns, offline=True)


def _outline(schema: Json, dialect: _Dialect) -> jsonschema_rs.Validator | None:
    """The outline's validator, or None where a reference leads to what an outline leaves out."""
    try:
        return _build(outline(schema), dialect)
    except BrokenSchema:
        return None


def _compile_reason(error: jsonschema_rs.ValidationError | jsonschema_rs.ReferencingError) -> str:
    message = _short(error.message)
    if "Retrieval is disabled" in message:
        return f"a $ref leads outside the schema, and nothing is ever fetched: {message}"
    if isinstance(error, jsonschema_rs.ValidationError) and error.instance_path:
        return f"{pointer(error.instance_path)}: {message}"
    return f"a $ref cannot be resolved: {message}" if "ointer" in message else message


def _short(message: str) -> str:
    return message if len(message) <= 300 else message[:300] + "…"


def _first(found: Iterator[Problem]) -> tuple[Problem, ...]:
    """The first problems; where there are more, the last one says so."""
    problems = tuple(dict.fromkeys(islice(found, MAX_PROBLEMS + 1)))
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return (*problems[: MAX_PROBLEMS - 1], Problem("", "there are more problems; mend these first"))
