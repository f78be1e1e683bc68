"""What the transports of a downstream have in common: they note what became of each request, and when all is over."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass

import anyio
from mcp.client._transport import TransportStreams

from holdfast_tools.downstream.attempt import Lost, NotSent

LAST_ANSWERS_S = 5.0
"""How long answers are waited for that may still be on their way when a link is over."""


@dataclass(slots=True)
class Exchange:
    """What a transport notes about one request.

    `sent` is set immediately before the first byte is written. `verdict` is set where the transport knows that no
    answer will come, or that what came is none. `withdrawn` forbids to send what was not sent by then.
    """

    sent: bool = False
    verdict: NotSent | Lost | None = None
    withdrawn: bool = False

    def begin(self) -> bool:
        """Called immediately before the first byte: False where it was withdrawn, and nothing may be written."""
        self.sent = self.sent or not self.withdrawn
        return self.sent


class Exchanges:
    """The requests under way on one link, by the marks under which the transport meets them again."""

    def __init__(self) -> None:
        self._by_mark: dict[str, Exchange] = {}
        self._marks = itertools.count(1)
        self._none = asyncio.Event()

    @contextmanager
    def under_way(self, exchange: Exchange) -> Iterator[str]:
        """The mark of `exchange`, while its request is under way."""
        mark = str(next(self._marks))
        self._by_mark[mark] = exchange
        try:
            yield mark
        finally:
            del self._by_mark[mark]
            if not self._by_mark:
                self._none.set()

    def marked(self, mark: str) -> Exchange | None:
        """The request of that mark, while it is under way."""
        return self._by_mark.get(mark)

    async def all_over(self) -> None:
        """Wait until no request is under way."""
        while self._by_mark:
            self._none.clear()
            await self._none.wait()


class Link(AbstractAsyncContextManager[TransportStreams], ABC):
    """One connection's transport, in the form in which the SDK's `Client` takes it. Single use.

    `over` is set once no new request should be sent here, and `reason` says why; requests under way may still be
    answered where `outlives_failure`. `exchanges` are the requests under way.
    """

    outlives_failure = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.over = asyncio.Event()
        self.exchanges = Exchanges()
        self._reason: str | None = None

    @property
    def reason(self) -> str:
        """Why the link is over, as a clause that can follow the downstream's name and a colon."""
        return self._reason or "the connection ended"

    @property
    def stderr_tail(self) -> tuple[str, ...]:
        """The last lines that a child process wrote to stderr."""
        return ()

    @property
    def pid(self) -> int | None:
        """The child process, where there is one."""
        return None

    async def last_answers(self) -> None:
        """Wait for what was sent here: while an answer may come where the link outlives its failure, else not long."""
        with anyio.move_on_after(None if self.outlives_failure else LAST_ANSWERS_S):
            await self.exchanges.all_over()

    def fail(self, reason: str) -> None:
        """The link is over; the first reason stands."""
        if self._reason is None:
            self._reason = reason
        self.over.set()

    @abstractmethod
    async def __aenter__(self) -> TransportStreams:
        """Open the link. Raises DownstreamError where that cannot be."""
