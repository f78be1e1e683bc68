"""Things that a server tells in bursts: what matters is when one is over."""

import asyncio

import anyio

QUIET_S = 0.2
LONGEST_BURST_S = 2.0
"""A burst of list changes is over after so much quiet, and listed anyway after so long."""


class Bursts:
    """What was noted, one burst after the other. For one task that waits."""

    def __init__(self) -> None:
        self._noted = asyncio.Event()

    def note(self) -> None:
        """Something came."""
        self._noted.set()

    @property
    def is_open(self) -> bool:
        """Whether something came since the last burst was over."""
        return self._noted.is_set()

    async def over(self) -> None:
        """Wait for the next burst, and until it is over."""
        await self._noted.wait()
        with anyio.move_on_after(LONGEST_BURST_S):
            while self._noted.is_set():
                self._noted.clear()
                with anyio.move_on_after(QUIET_S):
                    await self._noted.wait()
        self._noted.clear()
