"""Secrets that stand in a config as they are: found by name and by shape, told without being shown."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from holdfast_store.model.values import Json

_NAMES = re.compile(
    r"(?:^|[-_.])(?:api[-_]?key|key|token|secret|passw(?:or)?d|pwd|credentials?|authorization|auth|pat|dsn|cookie)"
    r"(?:$|[-_.])|(?:apikey|token|secret|password)$",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|Bearer\s+[A-Za-z0-9._~+/=-]{8,})"
)
_OPTION = re.compile(r"--?(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?:=(?P<value>.*))?", re.DOTALL)


def literal_secrets(entry: Json) -> Iterator[str]:
    """One sentence for each place of a `mcpServers` entry that looks as if it held a secret."""
    for place in _places(entry):
        yield f"{place} looks like a secret: write it as a variable, ${{NAME}}, to keep it out of the file"


def _places(entry: Json) -> Iterator[str]:
    for key in ("env", "headers"):
        for name, value in entry.get(key, {}).items():
            if _is_literal(value) and (_NAMES.search(name) or _SHAPES.search(value)):
                yield f"{key}.{name}"
    yield from _in_arguments(entry.get("args", []))
    if _has_secret(entry.get("url", "")):
        yield "url"


def _in_arguments(arguments: list[str]) -> Iterator[str]:
    named_before = False
    for position, argument in enumerate(arguments):
        option = _OPTION.fullmatch(argument)
        named = option is not None and _NAMES.search(option["name"]) is not None
        value = option["value"] if option is not None else argument
        if value and _is_literal(value) and (named or named_before or _SHAPES.search(value) or _has_secret(value)):
            yield f"args[{position}]"
        named_before = named and option is not None and option["value"] is None


def _has_secret(url: str) -> bool:
    """Whether an address carries a password or a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if not parts.scheme or not parts.netloc:
        return False
    named = any(_NAMES.search(name) and _is_literal(value) for name, value in parse_qsl(parts.query))
    return named or bool(parts.password and _is_literal(parts.password))


def _is_literal(value: str) -> bool:
    """Whether a text is itself what it says, rather than a reference to a variable."""
    return bool(value) and "${" not in value.replace("$${", "")
