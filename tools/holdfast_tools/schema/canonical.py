"""The one spelling of arguments that keys, joins and approvals are bound to."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

from holdfast_store.model.errors import InvalidArguments
from holdfast_store.model.values import Json
from holdfast_tools.schema.pointers import pointer


def canonical(arguments: Json) -> str:
    """`arguments` as compact JSON with sorted keys. `1` and `1.0` differ.

    Raises InvalidArguments, naming the place, for what JSON cannot carry: non-finite numbers and lone surrogates.
    """
    try:
        text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise InvalidArguments(_reason(arguments, error)) from None
    return text


def fingerprint(arguments: Json) -> str:
    """The SHA-256 of `canonical(arguments)`, in hex. Raises InvalidArguments as that does."""
    return digest_of(canonical(arguments))


def digest_of(text: str) -> str:
    """The SHA-256 of `text`, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def unrepresentable(arguments: Any) -> Iterator[tuple[str, str]]:
    """Every (pointer, sentence) of a value in `arguments` that JSON cannot carry."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), arguments)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield pointer(path), "the number is not finite; send a finite number, or leave it out"
        elif isinstance(value, str) and not _is_unicode(value):
            yield pointer(path), "the text holds half of a surrogate pair; send valid Unicode"
        elif isinstance(value, dict):
            waiting.extend(((*path, name), item) for name, item in value.items())
            if not all(_is_unicode(name) for name in value):
                yield pointer(path), "a property's name holds half of a surrogate pair; send valid Unicode"
        elif isinstance(value, list):
            waiting.extend(((*path, index), item) for index, item in enumerate(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(arguments: Json, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the arguments are nested too deeply"
    for place, sentence in unrepresentable(arguments):
        return f"{place or '/'}: {sentence}"
    return f"the arguments are not JSON: {error}"
