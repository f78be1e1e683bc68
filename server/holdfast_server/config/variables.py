"""`${VAR}` and `${VAR:-default}` in the config's text values, as a shell would read them.

`${VAR:-default}` gives the default where the variable is unset or empty. `$${` stands for a literal `${`.
"""

import re
from collections.abc import Callable, Mapping

_REFERENCE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class Expanded(str):
    """A text that came, at least in part, out of a variable: it may stand where a number or true/false is due."""

    __slots__ = ()


class Variables:
    """Expands references out of `environ`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def expand(self, text: str, complain: Callable[[str, str], None]) -> str:
        """`text` with its references replaced; what cannot be is left as it stands and told to `complain(cause, mend)`.

        Answers `Expanded` where at least one reference was replaced.
        """
        if "${" not in text:
            return text
        replaced = False

        def value(found: re.Match[str]) -> str:
            nonlocal replaced
            if found["escaped"]:
                return "${"
            body = _BODY.fullmatch(found["body"])
            if not found["end"] or body is None:
                complain(
                    f"{found[0]!r} is not a variable reference",
                    "write ${NAME} or ${NAME:-default}, or $${ for a literal ${",
                )
                return found[0]
            known = self._environ.get(body["name"])
            if known is None and body["default"] is None:
                complain(
                    f"the environment variable {body['name']} is not set",
                    f"set it, or write ${{{body['name']}:-default}}",
                )
                return found[0]
            if known is not None and not _is_unicode(known):
                complain(f"the environment variable {body['name']} is not UTF-8", "set it to a text")
                return found[0]
            replaced = True
            fallback = body["default"]
            return known or (fallback if fallback is not None else "")

        result = _REFERENCE.sub(value, text)
        return Expanded(result) if replaced else result


def _is_unicode(value: str) -> bool:
    """Whether the bytes behind an environment variable were UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
