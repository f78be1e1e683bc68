"""How a bug is planted: functions and statements of the product are replaced while a block lasts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

Patch = tuple[object, str, Any]
"""A module or class, the name of what is replaced in it, and by what."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug. `changes` alter the store's tables, where a constraint would save the day."""

    name: str
    patches: Callable[[], tuple[Patch, ...]]
    changes: tuple[str, ...] = ()

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is there inside the block."""
        with ExitStack() as stack:
            for target, attribute, value in self.patches():
                stack.enter_context(patch.object(target, attribute, value))
            yield


def without(statement: str, part: str, instead: str) -> str:
    """`statement` with `part` replaced. Raises `LookupError` where it is not there: the mutant is out of date."""
    if part not in statement:
        raise LookupError(f"the statement has no {part!r} any more: the mutant must be written anew")
    return statement.replace(part, instead)
