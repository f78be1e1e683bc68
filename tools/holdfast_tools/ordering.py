"""Which calls of a tool run one after the other: those of the same line."""

from typing import Any

from holdfast_store.model.values import Json
from holdfast_tools.schema import canonical, digest_of
from holdfast_tools.schema.pointers import follow, local_reference, tokens
from holdfast_tools.settings import Order

_MAY_ADD_MORE = frozenset({"allOf", "anyOf", "oneOf", "if", "$dynamicRef", "dependentSchemas", "patternProperties"})
"""Keywords beside which `properties` and `items` do not say all."""


def line_of(order: Order | None, *, tenant: str, downstream: str, tool: str, arguments: Json) -> str | None:
    """The line of a call, a digest of what its calls have in common; None where the tool's calls need no order.

    Where there is no value at the pointer, or null, calls form a line of their own. As in a fingerprint, `1` and `1.0`
    are different values.
    """
    if order is None:
        return None
    common: Json = {"tenant": tenant, "downstream": downstream, "tool": tool}
    if order.by is not None:
        common["value"] = follow(arguments, tokens(order.by))
    return digest_of(canonical(common))


def leads_nowhere(order: Order, schema: Any) -> bool:
    """Whether no arguments that `schema` names can have a value there, so that all calls are in one line after all."""
    root = schema
    for token in tokens(order.by or ""):
        seen: list[Any] = []
        while isinstance(schema, dict) and "$ref" in schema and schema not in seen:
            seen.append(schema)
            schema = local_reference(root, schema["$ref"])
        if not isinstance(schema, dict) or not _MAY_ADD_MORE.isdisjoint(schema):
            return False
        named = schema.get("properties", {})
        if token in named:
            schema = named[token]
        elif token.isdecimal() and "items" in schema:
            schema = schema["items"]
        elif isinstance(schema.get("additionalProperties"), dict):
            schema = schema["additionalProperties"]
        else:
            return schema.get("additionalProperties") is not True and ("properties" in schema or "type" in schema)
    return False
