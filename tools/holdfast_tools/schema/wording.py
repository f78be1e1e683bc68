"""What is wrong with arguments, in words that a model can act on."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema_rs import ValidationError
from jsonschema_rs import ValidationErrorKind as Kind

from holdfast_tools.schema.names import declared
from holdfast_tools.schema.pointers import follow, local_reference, pointer

SHOWN_CHARACTERS = 80
SHOWN_NAMES = 8
SHOWN_ALTERNATIVES = 3

_TYPES = {
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with arguments. `pointer` (RFC 6901) is empty for the arguments as a whole."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


def explain(error: ValidationError, schema: Any) -> Iterator[Problem]:
    """The problems that one validation error amounts to."""
    place = pointer(error.instance_path)
    match error.kind:
        case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
            known = declared(follow(schema, error.schema_path[:-1]), schema)
            absent = known - error.instance.keys() if isinstance(error.instance, dict) else known
            for name in names:
                yield Problem(place, unknown_property(name, absent))
        case _:
            yield Problem(place, _sentence(error, schema))


def unknown_property(name: str, candidates: Iterable[str]) -> str:
    """The sentence about a property that no part of the schema speaks of."""
    known = sorted(candidates)
    sentence = f"unknown property {show(name)}"
    near = nearest(name, known)
    if near is not None:
        return f"{sentence}; did you mean {show(near)}?"
    if 0 < len(known) <= SHOWN_NAMES:
        return f"{sentence}; not given yet: {', '.join(show(other) for other in known)}"
    return sentence


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most likely means, or None. Case, hyphens and underscores do not count."""
    plain = {_plain(candidate): candidate for candidate in candidates}
    match = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[match[0]] if match else None


def show(value: Any) -> str:
    """`value` as JSON, cut to a length that can be read, and that gives no long secret away."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = value[:SHOWN_CHARACTERS] + "…"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS + 3 else text[:SHOWN_CHARACTERS] + "…"


def _sentence(error: ValidationError, schema: Any) -> str:
    """The sentence for any error but those about unknown names."""
    got = error.instance
    match error.kind:
        case Kind.Type(types=types):
            return f"expected {_either([_TYPES.get(name, name) for name in types])}, got {_describe(got)}"
        case Kind.Required(property=name):
            owner = follow(schema, error.schema_path[:-1])
            shape = _shape(follow(owner, ("properties", name)), schema)
            return f"missing required property {show(name)}" + (f" ({shape})" if shape else "")
        case Kind.Enum(options=options):
            sentence = f"expected {_one_of(options)}, got {_describe(got)}"
            near = nearest(got, [o for o in options if isinstance(o, str)]) if isinstance(got, str) else None
            return f"{sentence}; did you mean {show(near)}?" if near is not None else sentence
        case Kind.Constant(expected_value=expected):
            return f"expected {show(expected)}, got {_describe(got)}"
        case Kind.AnyOf(context=context) | Kind.OneOfNotValid(context=context):
            return _no_alternative(error, context, schema)
        case Kind.OneOfMultipleValid(context=context):
            fitting = sum(not branch for branch in context)
            return f"fits {fitting} of {len(context)} alternatives where it must fit exactly one"
        case Kind.PropertyNames(error=inner):
            return f"the property name {show(inner.instance)} is not allowed: {_sentence(inner, schema)}"
        case Kind.FalseSchema():
            return "must not be given"
        case Kind.BacktrackLimitExceeded() | Kind.RegexEngineFailure():
            return f"{_describe(got)} could not be checked against the schema's pattern within its limit"
        case _:
            return _limit(error.kind, got) or error.message


def _limit(kind: Kind, got: Any) -> str | None:
    """The sentence for bounds, lengths, patterns and formats."""
    match kind:
        case Kind.Minimum(limit=limit):
            return f"expected at least {show(limit)}, got {_describe(got)}"
        case Kind.ExclusiveMinimum(limit=limit):
            return f"expected more than {show(limit)}, got {_describe(got)}"
        case Kind.Maximum(limit=limit):
            return f"expected at most {show(limit)}, got {_describe(got)}"
        case Kind.ExclusiveMaximum(limit=limit):
            return f"expected less than {show(limit)}, got {_describe(got)}"
        case Kind.MultipleOf(multiple_of=step):
            return f"expected a multiple of {show(step)}, got {_describe(got)}"
        case Kind.MinLength(limit=limit):
            return f"expected at least {_count(limit, 'character')}, got {len(got)}"
        case Kind.MaxLength(limit=limit):
            return f"expected at most {_count(limit, 'character')}, got {len(got)}"
        case Kind.MinItems(limit=limit):
            return f"expected at least {_count(limit, 'item')}, got {len(got)}"
        case Kind.MaxItems(limit=limit):
            return f"expected at most {_count(limit, 'item')}, got {len(got)}"
        case Kind.MinProperties(limit=limit):
            return f"expected at least {_count(limit, 'property', 'properties')}, got {len(got)}"
        case Kind.MaxProperties(limit=limit):
            return f"expected at most {_count(limit, 'property', 'properties')}, got {len(got)}"
        case Kind.AdditionalItems(limit=limit):
            return f"expected at most {_count(limit, 'item')}, got {len(got)}"
        case Kind.UniqueItems():
            return "the items must differ from each other"
        case Kind.Pattern(pattern=pattern):
            return f"expected a string that matches {pattern}, got {_describe(got)}"
        case Kind.Format(format=name):
            return f"expected a string in the format {name}, got {_describe(got)}"
        case Kind.Not():
            return f"{_describe(got)} is what the schema rules out here"
        case Kind.Contains():
            return "no item is of the kind that must be among them"
    return None


def _no_alternative(error: ValidationError, context: Sequence[Sequence[ValidationError]], schema: Any) -> str:
    """Why none of several alternatives fits: the types they want, or what keeps the closest from fitting."""
    wanted: list[str] = []
    closer: list[Sequence[ValidationError]] = []
    for branch in context:
        at_once = [e for e in branch if len(e.instance_path) == len(error.instance_path)]
        types = [e.kind.types for e in at_once if isinstance(e.kind, Kind.Type)]
        if types:
            wanted.extend(_TYPES.get(name, name) for name in types[0])
        else:
            closer.append(branch)
    if not closer:
        return f"expected {_either(list(dict.fromkeys(wanted)))}, got {_describe(error.instance)}"
    best = min(closer, key=_distance)
    reasons = [str(problem) for inner in best for problem in explain(inner, schema)]
    shown = "; ".join(reasons[:SHOWN_ALTERNATIVES])
    if len(context) == 1:
        return shown
    return f"fits none of {len(context)} alternatives; to fit the closest: {shown}"


def _distance(branch: Sequence[ValidationError]) -> tuple[int, int]:
    """How far off an alternative is: one told apart by a constant that differs is further than any other."""
    told_apart = any(isinstance(error.kind, Kind.Constant | Kind.Enum) for error in branch)
    return (int(told_apart), len(branch))


def _describe(value: Any) -> str:
    match value:
        case bool() | None:
            return json.dumps(value)
        case str():
            return f"the string {show(value)}"
        case dict():
            return "an object"
        case list():
            return f"an array of {_count(len(value), 'item')}"
        case _:
            return f"the number {show(value)}"


def _shape(part: Any, schema: Any) -> str:
    """What a property is to be, in a word or two; empty where the schema does not say."""
    target = local_reference(schema, part.get("$ref")) if isinstance(part, dict) else None
    part = target if isinstance(target, dict) else part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("enum"), list) and len(part["enum"]) <= SHOWN_NAMES:
        return _one_of(part["enum"])
    kind = part.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return " or ".join(str(name) for name in kind)
    return ""


def _one_of(options: Sequence[Any]) -> str:
    shown = ", ".join(show(option) for option in options[:SHOWN_NAMES])
    if len(options) == 1:
        return shown
    return f"one of {shown}" + (f" and {len(options) - SHOWN_NAMES} more" if len(options) > SHOWN_NAMES else "")


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
