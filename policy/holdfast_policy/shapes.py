"""What a JSON Schema lets stand at a place: which types, which values, which members.

Everything here errs to one side. A type, value or member is ruled out only where the schema rules it out in whatever
way its applicators are read; what cannot be read (a remote or dynamic reference) rules out nothing. One thing goes
beyond the specification: a schema that declares properties and says nothing of others is taken to mean just those.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from holdfast_policy.conditions import text_matches

TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})

_OLD_DRAFTS = ("draft-03", "draft-04", "draft-05", "draft-06", "draft-07")
_ALTERNATIVES = ("anyOf", "oneOf")
_CONDITIONALS = ("if", "then", "else")
_ANNOTATING = frozenset({"type", "title", "description", "default", "examples", "deprecated"})
_DEEPEST = 50
_MOST_STEPS = 20_000

_UNREAD: Any = {}
"""Stands, by identity, for a schema that cannot be read: it rules out nothing."""


class TooIntricate(Exception):
    """The schema needs more steps than any schema that people read: it was left unread."""


@dataclass(slots=True)
class _Document:
    """The schema as a whole, for its references, and how many steps may still be spent on it."""

    root: Any
    steps_left: int = _MOST_STEPS

    def spend(self, depth: int) -> None:
        self.steps_left -= 1
        if self.steps_left < 0 or depth > _DEEPEST:
            raise TooIntricate

    @property
    def references_stand_alone(self) -> bool:
        """Up to draft-07 a `$ref` makes its siblings void."""
        declared = self.root.get("$schema") if isinstance(self.root, dict) else None
        return isinstance(declared, str) and any(draft in declared for draft in _OLD_DRAFTS)

    def resolve(self, reference: Any) -> Any:
        """What a JSON pointer into this document points at; `_UNREAD` where it is another kind of reference."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            return _UNREAD
        path = unquote(reference[1:])
        found = self.root
        for step in path.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return _UNREAD
        return found


@dataclass(slots=True)
class _Member:
    """What one schema says of a member of that name."""

    schemas: list[Any] = field(default_factory=list)
    declared: bool = False  # it names the member
    forbidden: bool = False  # no member of that name can be there
    opened: bool = False  # it says that others than those it names may be there
    closed: bool = False  # it names members, or says that there are no others


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that satisfies all of `schemas`. All methods raise `TooIntricate`."""

    document: _Document
    schemas: tuple[Any, ...]
    depth: int = 0

    @classmethod
    def of(cls, schema: Any) -> "Shape":
        """The shape of a whole schema document."""
        return cls(_Document(schema), (schema,))

    @classmethod
    def unknown(cls) -> "Shape":
        """Anything may stand here."""
        return cls.of(True)

    @classmethod
    def constant(cls, value: Any) -> "Shape":
        return cls.of({"const": value})

    def types(self) -> frozenset[str]:
        """The JSON types that can stand here; all where none can, which is not the asker's mistake."""
        possible = TYPES
        for schema in self._all_of():
            possible &= _types_of(schema)
            for alternatives in self._groups(schema):
                possible &= frozenset().union(*(shape.types() for shape in alternatives))
        return possible or TYPES

    def values(self) -> tuple[Any, ...] | None:
        """The only values that can stand here; None where they are not listed, or where none can."""
        lists: list[list[Any]] = []
        for schema in self._all_of():
            if "const" in schema:
                lists.append([schema["const"]])
            if isinstance(schema.get("enum"), list):
                lists.append(schema["enum"])
            for alternatives in self._groups(schema):
                found = [shape.values() for shape in alternatives]
                if None not in found:
                    lists.append([value for values in found for value in values or ()])
        if not lists:
            return None
        return tuple(value for value in lists[0] if all(contains(others, value) for others in lists[1:])) or None

    def member(self, name: str) -> "Shape | None":
        """The shape of the property `name`; None where an object of this shape has none of that name."""
        found = self._look_up(name)
        if found.forbidden:
            return None
        if not found.declared and not found.opened and found.closed:
            return None
        return Shape(self.document, tuple(found.schemas))

    def member_names(self) -> frozenset[str]:
        """Every property that is named somewhere."""
        names: set[str] = set()
        for schema in self._all_of():
            names.update(_mapping(schema, "properties"))
            for shapes in (*self._groups(schema), self._conditional(schema)):
                for shape in shapes:
                    names.update(shape.member_names())
        return frozenset(names)

    def element(self) -> "Shape":
        """The shape of the elements of an array."""
        return Shape(self.document, tuple(self._element_schemas()))

    def _element_schemas(self) -> list[Any]:
        schemas: list[Any] = []
        for schema in self._all_of():
            items, leading = schema.get("items", True), schema.get("prefixItems", [])
            if isinstance(items, list):
                items, leading = schema.get("additionalItems", True), items
            if isinstance(leading, list) and leading:
                schemas.append({"anyOf": [*leading, items]})
            elif items is not False:
                schemas.append(items)
            schemas.extend(
                {"anyOf": [{"allOf": shape._element_schemas()} for shape in alternatives]}
                for alternatives in self._groups(schema)
            )
        return schemas

    def _look_up(self, name: str) -> _Member:
        whole = _Member()
        for schema in self._all_of():
            own = self._own_member(schema, name)
            whole.schemas += own.schemas
            whole.declared |= own.declared
            whole.forbidden |= own.forbidden
            whole.opened |= own.opened
            whole.closed |= own.closed
            for alternatives in self._groups(schema):
                self._join_alternatives(whole, [shape._look_up(name) for shape in alternatives])
            for shape in self._conditional(schema):
                said = shape._look_up(name)
                whole.declared |= said.declared
                whole.opened |= said.opened
                whole.closed |= said.closed
        return whole

    def _own_member(self, schema: Mapping[str, Any], name: str) -> _Member:
        """What `schema` says by its own `properties`, `patternProperties` and `additionalProperties`."""
        if schema is _UNREAD:
            return _Member(opened=True)
        properties = _mapping(schema, "properties")
        found = [properties[name]] if name in properties else []
        found += [
            subschema
            for pattern, subschema in _mapping(schema, "patternProperties").items()
            if text_matches(pattern, name) is not False
        ]
        if found:
            return _Member(found, declared=True, forbidden=any(said is False for said in found), closed=True)
        others = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
        if others is None:
            any_object = self.depth > 0 and schema.get("type") == "object" and _ANNOTATING.issuperset(schema)
            return _Member(closed=isinstance(schema.get("properties"), dict), opened=any_object)
        if others is False:
            return _Member(forbidden="additionalProperties" in schema, closed=True)
        return _Member([others], opened=True)

    @staticmethod
    def _join_alternatives(whole: _Member, said: list[_Member]) -> None:
        possible = [member for member in said if not member.forbidden]
        whole.closed |= any(member.closed for member in said)
        whole.forbidden |= not possible
        whole.declared |= any(member.declared for member in possible)
        whole.opened |= any(member.opened for member in possible)
        whole.schemas.append({"anyOf": [{"allOf": member.schemas} for member in possible] or [True]})

    def _all_of(self) -> Iterator[Mapping[str, Any]]:
        """Every schema that applies for certain: these, what they refer to, and their `allOf`."""
        pending, seen = list(self.schemas), set()
        while pending:
            schema = pending.pop()
            self.document.spend(self.depth)
            if not isinstance(schema, dict):
                yield {} if schema is True else _UNREAD
                continue
            if "$ref" in schema:
                reference = str(schema["$ref"])
                if reference not in seen:
                    seen.add(reference)
                    pending.append(self.document.resolve(schema["$ref"]))
                if self.document.references_stand_alone:
                    continue
            if "$dynamicRef" in schema or "$recursiveRef" in schema:
                yield _UNREAD
            if isinstance(schema.get("allOf"), list):
                pending.extend(schema["allOf"])
            yield schema

    def _groups(self, schema: Mapping[str, Any]) -> "Iterator[list[Shape]]":
        """Each `anyOf` and `oneOf`: one of the shapes holds. None is left where all are False."""
        for keyword in _ALTERNATIVES:
            subschemas = schema.get(keyword)
            if isinstance(subschemas, list) and subschemas:
                possible = [subschema for subschema in subschemas if subschema is not False]
                yield [Shape(self.document, (subschema,), self.depth + 1) for subschema in possible]

    def _conditional(self, schema: Mapping[str, Any]) -> "list[Shape]":
        """What applies only sometimes: it may name members, and rules out nothing."""
        subschemas = [schema[keyword] for keyword in _CONDITIONALS if keyword in schema]
        subschemas += _mapping(schema, "dependentSchemas").values()
        subschemas += [value for value in _mapping(schema, "dependencies").values() if isinstance(value, dict)]
        return [Shape(self.document, (subschema,), self.depth + 1) for subschema in subschemas]


def type_of(value: Any) -> str:
    """The JSON type of a parsed value. Integers and floats are both numbers."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case dict():
            return "object"
        case _:
            return "bytes"


def contains(values: list[Any] | tuple[Any, ...], value: Any) -> bool:
    """Whether `value` is among `values` as JSON compares them: 1 is 1.0, but not true."""
    return any(type_of(other) == type_of(value) and other == value for other in values)


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that `type`, `const` and `enum` of this very schema leave."""
    possible = TYPES
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared]
    named = frozenset("number" if name == "integer" else name for name in names if isinstance(name, str))
    if declared is not None and named and named <= TYPES:
        possible &= named
    if "const" in schema:
        possible = frozenset({type_of(schema["const"])})
    if isinstance(schema.get("enum"), list):
        possible &= frozenset(type_of(value) for value in schema["enum"])
    return possible


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}
