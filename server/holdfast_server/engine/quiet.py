"""The clock of an engine that nobody needs at the moment."""

import asyncio
import time

import anyio

FIRST_CALLER_S = 30.0
"""How long an engine waits for whoever started it, however short its patience is."""


class Quiet:
    """Since when nothing has happened. `stir` says that something did; `look` that it is time to look anew."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._first_caller_by = self._since + FIRST_CALLER_S
        self._looked_for = asyncio.Event()

    def stir(self) -> None:
        """Something happens."""
        self._since = time.monotonic()

    def left(self) -> None:
        """A caller has left, perhaps the last one."""
        self._first_caller_by = 0.0
        self.stir()
        self.look()

    def look(self) -> None:
        """Have whoever waits look at once: the patience may be another."""
        self._looked_for.set()

    def left_s(self, patience_s: float) -> float:
        """How long it has to stay quiet yet to have been so for `patience_s`; not above 0 where it has."""
        return max(self._since + patience_s, self._first_caller_by) - time.monotonic()

    async def wait(self, timeout_s: float) -> None:
        """Wait until it is time to look, at most `timeout_s` seconds."""
        with anyio.move_on_after(timeout_s):
            await self._looked_for.wait()
        self._looked_for.clear()
