"""JSON pointers (RFC 6901), and what they lead to."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote


def pointer(path: Iterable[str | int]) -> str:
    """The pointer of `path`; the empty string is the root."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)


def tokens(text: str) -> list[str]:
    """The unescaped tokens of a pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def follow(document: Any, path: Iterable[str | int]) -> Any:
    """What `path` leads to in `document`, or None where it leads nowhere."""
    for token in path:
        if isinstance(document, dict):
            document = document.get(token)
        elif isinstance(document, list) and str(token).isdecimal() and int(token) < len(document):
            document = document[int(token)]
        else:
            return None
    return document


def local_reference(document: Any, reference: Any) -> Any:
    """The target of a `$ref` into `document` itself (``#``, ``#/...``), or None for any other reference."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    return follow(document, tokens(unquote(reference[1:])))
