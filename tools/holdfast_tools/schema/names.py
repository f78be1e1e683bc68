"""Which property names a schema speaks of: the grounds on which strict checking refuses the others.

JSON Schema leaves unnamed properties open, so a misspelt optional argument passes in silence. Strict checking asks
the validator, for each object of an instance, which names any applicable part of the schema spoke of: `properties`,
`patternProperties`, `additionalProperties` and `unevaluatedProperties` wherever `allOf`, `anyOf`, `oneOf`, `if`,
`$ref` and the rest made them apply. It is the meaning of `unevaluatedProperties: false` (JSON Schema 2020-12, core,
section 11.3), for every draft and for every object that the schema describes by `properties`.

The validator reports what applied as annotations. It reports none for `additionalProperties` that allow everything,
so `marked` plants a keyword of its own beside them, which validation ignores and annotations carry.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from holdfast_tools.schema.pointers import follow, local_reference, tokens

MARK = "x-holdfast-every-name-is-spoken-of"

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_DATA = frozenset({"enum", "const", "default", "examples", "required", "type", "dependentRequired"})
_CLOSERS = ("additionalProperties", "unevaluatedProperties")
_STRUCTURE = frozenset(
    {
        *("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor"),
        *("$ref", "$dynamicRef", "$recursiveRef", "$defs", "definitions"),
        *("properties", "patternProperties", "items", "prefixItems", "additionalItems", "allOf", "anyOf"),
    }
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A property that no applicable part of the schema speaks of. `path` leads to the object that holds it."""

    path: tuple[str, ...]
    name: str
    candidates: frozenset[str]


def marked(schema: Any, *, every_object: bool = False) -> Any:
    """A copy of `schema` that validates alike and marks the objects about whose other names it says something.

    What `contains` describes is one item among others, not their shape: there (`every_object`) all are marked. What
    `propertyNames` describes are strings, about which nothing below can say anything.
    """
    if isinstance(schema, list):
        return [marked(item, every_object=every_object) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {
        key: value
        if key == "propertyNames"
        else _within(key, value, partial(marked, every_object=every_object or key == "contains"))
        for key, value in schema.items()
    }
    if any(closer in schema for closer in _CLOSERS) or (every_object and "properties" in schema):
        copy[MARK] = True
    return copy


def outline(schema: Any) -> Any:
    """A copy of `schema` that accepts everything and still annotates names, as if every alternative applied.

    It serves instances that are invalid for another reason: for those the validator reports no annotations.
    """
    if isinstance(schema, list):
        return [outline(item) for item in schema]
    if schema is False:
        return {}
    if not isinstance(schema, dict):
        return schema
    copy = {key: _within(key, value, outline) for key, value in schema.items() if key in _STRUCTURE}
    everything = [*copy.get("allOf", ()), *_alternatives(schema)]
    if everything:
        copy["allOf"] = everything
    if isinstance(schema.get("additionalProperties"), dict):
        copy["additionalProperties"] = outline(schema["additionalProperties"])
    if any(closer in schema for closer in _CLOSERS):
        copy[MARK] = True
    return copy


def unknown_names(annotations: Sequence[Mapping[str, Any]], instance: Any, schema: Any) -> Iterator[Unknown]:
    """The properties of `instance` that nothing spoke of, by the validator's annotations."""
    spoken: dict[str, set[str]] = {}
    described: dict[str, list[str]] = {}
    open_places: set[str] = set()
    for annotation in annotations:
        place, value, location = annotation["instanceLocation"], annotation["annotations"], annotation["schemaLocation"]
        if isinstance(value, dict):
            if MARK in value:
                open_places.add(place)
        elif isinstance(value, list):
            keyword = location.rsplit("/", 1)[-1]
            if keyword in ("properties", "patternProperties"):
                spoken.setdefault(place, set()).update(value)
            if keyword == "properties":
                described.setdefault(place, []).append(location)
    for place, locations in described.items():
        path = tokens(place)
        holder = instance if not path else follow(instance, path)
        if place in open_places or not isinstance(holder, dict) or len(holder) <= len(spoken[place] & holder.keys()):
            continue
        candidates = frozenset().union(*(_declared_at(schema, location) for location in locations))
        for name in holder:
            if name not in spoken[place]:
                yield Unknown(tuple(path), name, candidates - holder.keys())


def declared(part: Any, schema: Any) -> frozenset[str]:
    """The names that `part` of `schema` declares by `properties`, through composition and local references."""
    names: set[str] = set()
    seen: set[int] = set()
    waiting = [part]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, dict) or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current.get("properties"), dict):
            names.update(current["properties"])
        for key in ("allOf", "anyOf", "oneOf"):
            if isinstance(current.get(key), list):
                waiting.extend(current[key])
        waiting.extend(current.get(key) for key in ("if", "then", "else"))
        waiting.append(local_reference(schema, current.get("$ref")))
    return frozenset(names)


def _within(key: str, value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` of keyword `key` with `change` made to each schema in it."""
    if key in _DATA:
        return value
    if key in _MAPS and isinstance(value, dict):
        return {name: change(part) if not isinstance(part, list) else part for name, part in value.items()}
    return change(value)


def _alternatives(schema: dict[str, Any]) -> Iterator[Any]:
    one_of = schema.get("oneOf")
    if isinstance(one_of, list):
        yield from (outline(branch) for branch in one_of)
    for key in ("if", "then", "else"):
        if key in schema:
            yield outline(schema[key])
    for key in ("dependentSchemas", "dependencies"):
        if isinstance(schema.get(key), dict):
            yield from (outline(part) for part in schema[key].values() if not isinstance(part, list))


def _declared_at(schema: Any, location: str) -> frozenset[str]:
    properties = follow(schema, tokens(location.partition("#")[2] or location))
    return frozenset(properties) if isinstance(properties, dict) else frozenset()
