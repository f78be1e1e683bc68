"""What a run must not take from the real world: clocks, random numbers, the addresses of objects."""

import asyncio
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Generic, TypeVar
from unittest.mock import patch

from anyio._backends._asyncio import CancelScope

T = TypeVar("T")

_PACKAGES = ("holdfast_store", "holdfast_policy", "holdfast_tools")


class _InOrder(dict[T, None], Generic[T]):
    """A set that iterates in the order in which things were added."""

    def add(self, item: T) -> None:
        self[item] = None

    def remove(self, item: T) -> None:
        del self[item]

    def discard(self, item: T) -> None:
        self.pop(item, None)


@contextmanager
def stand_ins(seeded: random.Random, wall_clock: Callable[[], float]) -> Iterator[None]:
    """Inside, every module of the product sees a virtual clock and seeded random numbers."""
    replaced = _replaced(seeded, wall_clock)
    made = CancelScope.__init__

    def make(scope: CancelScope, *args: Any, **options: Any) -> None:
        made(scope, *args, **options)
        scope._child_scopes = _InOrder()  # type: ignore[assignment]

    undo = []
    for name, module in tuple(sys.modules.items()):
        if name.startswith(_PACKAGES):
            for attribute, (real, stand_in) in replaced.items():
                if getattr(module, attribute, None) is real:
                    setattr(module, attribute, stand_in)
                    undo.append((module, attribute, real))
    try:
        with patch.object(CancelScope, "__init__", make):
            yield
    finally:
        for module, attribute, real in undo:
            setattr(module, attribute, real)


def _replaced(seeded: random.Random, wall_clock: Callable[[], float]) -> dict[str, tuple[Any, Any]]:
    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    def token_hex(size: int) -> str:
        return f"{seeded.getrandbits(8 * size):0{2 * size}x}"

    clock = SimpleNamespace(time=wall_clock, monotonic=loop_time, perf_counter=loop_time)
    drawn = SimpleNamespace(uniform=seeded.uniform, random=seeded.random, randint=seeded.randint)
    return {
        "time": (time, clock),
        "random": (random, drawn),
        "secrets": (secrets, SimpleNamespace(token_hex=token_hex)),
    }
