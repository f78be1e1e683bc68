"""What somebody probably meant: the nearest known name, in words to append to a message."""

import difflib
from collections.abc import Iterable

_SHOWN = 8


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where none is like it. Case counts for nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in sorted(known, reverse=True)}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """ "; did you mean x?", else the known names, else nothing."""
    candidates = sorted(known)
    close = nearest(name, candidates)
    if close is not None:
        return f"; did you mean {close}?"
    if not candidates:
        return ""
    more = ", ..." if len(candidates) > _SHOWN else ""
    return f"; there are {', '.join(candidates[:_SHOWN])}{more}"
