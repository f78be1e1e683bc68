"""One attempt under way at a downstream."""

import asyncio
from collections.abc import Callable

import anyio

from holdfast_tools.downstream.answers import unanswered
from holdfast_tools.downstream.attempt import Attempt
from holdfast_tools.downstream.link import Exchange


class Dispatch:
    """One attempt under way. `outcome` always resolves; wait for it with `asyncio.wait`, which does not cancel it.

    `holdup` says why nothing was sent yet, where there is more to say than that. `lost`: nobody counts on an answer any
    more. `exchange` and `scope` are for the downstream that performs it; `on_lost` is called when it comes to be lost.
    """

    def __init__(self, downstream: str, on_lost: Callable[[], None]) -> None:
        self.outcome: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self.holdup: str | None = None
        self.lost = False
        self.exchange = Exchange()
        self.scope = anyio.CancelScope()
        self._downstream = downstream
        self._on_lost = on_lost

    @property
    def sent(self) -> bool:
        """Whether the request was written, or is about to be: set immediately before."""
        return self.exchange.sent

    def hold_up(self, why: str) -> None:
        """Note why nothing can be sent yet."""
        self.holdup = why

    def abandon(self) -> None:
        """Stop waiting. What was not sent by now never is.

        The downstream of a read that was sent is told to stop as well; that of a write never is.
        """
        self.exchange.withdrawn = True
        self.conclude_unanswered("nobody waits for it any more")
        self.scope.cancel()

    def lose(self) -> None:
        """Count on no answer any more. One that comes is welcome; the session may be ended where others need its place.

        What becomes of the call must be written down by then.
        """
        self.lost = True
        self._on_lost()

    def conclude(self, attempt: Attempt) -> None:
        """Resolve the outcome; the first one stands."""
        if not self.outcome.done():
            self.outcome.set_result(attempt)

    def conclude_unanswered(self, reason: str) -> None:
        """No answer will come: what counts is whether anything was sent."""
        self.conclude(unanswered(self._downstream, reason, self.exchange))
