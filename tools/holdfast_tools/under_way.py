"""What this engine is running now: a slot for each call, from before its claim until after its settle."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from holdfast_store.model.values import Outcome
from holdfast_tools.downstream.attempt import Attempt
from holdfast_tools.downstream.dispatch import Dispatch
from holdfast_tools.downstream.gate import Place
from holdfast_tools.questions import Questions
from holdfast_tools.remote.watch import Watch


@dataclass(slots=True)
class UnderWay:
    """A call that is being claimed or run.

    `withdrawn` is how it ends where it was cancelled before anything was sent, or is a read; `put_back` says that it
    was queued again unsent, because the engine stops. `watch` is there while the downstream's own task is watched,
    which another engine can do as well; `cancel_requested` is for the watch that begins later. `questions` are those
    that the downstream asks in the midst of the attempt. `place` is the attempt's own at its downstream; none is
    needed to watch a task. `claim_asked_at` is when its claim was asked of the store, on the loop's clock: no later
    than the claim itself.
    """

    dispatch: Dispatch | None = None
    place: Place | None = None
    watch: Watch | None = None
    questions: Questions | None = None
    withdrawn: Outcome | None = None
    put_back: bool = False
    cancel_requested: bool = False
    claim_asked_at: float = field(default_factory=anyio.current_time)

    @property
    def sent(self) -> bool:
        """Whether its request was written, or is about to be."""
        return self.dispatch is not None and self.dispatch.sent

    @property
    def given_up(self) -> bool:
        """Whether nothing more may be sent for it."""
        return self.withdrawn is not None or self.put_back

    def abandon(self) -> None:
        """Stop waiting. What was not sent by now never is."""
        if self.dispatch is not None:
            self.dispatch.abandon()
        if self.watch is not None:
            self.watch.leave()


class Slots:
    """The calls under way, `most` at once. Sets `queued` when a slot is free again after there was none.

    What only watches a remote task, however long that takes, steps aside: it is under way, and leaves its slot to
    another.

    Once `closed`, nothing more may begin; what is under way stays.
    """

    def __init__(self, most: int, queued: asyncio.Event) -> None:
        self.most = most
        self.closed = False
        self._queued = queued
        self._held: dict[str, UnderWay] = {}
        self._aside: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._held

    def __iter__(self) -> Iterator[tuple[str, UnderWay]]:
        return iter(tuple(self._held.items()))

    @property
    def free(self) -> int:
        """How many more calls may be under way at once; none once closed."""
        return 0 if self.closed else max(0, self.most - len(self._held) + len(self._aside))

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._held

    def get(self, call_id: str) -> UnderWay | None:
        """What is known of the call, where it is under way here."""
        return self._held.get(call_id)

    def hold(self, call_id: str, place: Place | None = None, dispatch: Dispatch | None = None) -> UnderWay:
        """Take a slot for a call that has this `place` at its downstream; `dispatch` where it is sent already."""
        held = self._held[call_id] = UnderWay(dispatch, place)
        self._idle.clear()
        return held

    def release(self, call_id: str) -> None:
        """Give the slot of a call back."""
        self.step_aside(call_id)
        self.leave_place(self._held.pop(call_id), None)
        self._aside.remove(call_id)
        if not self._held:
            self._idle.set()

    def step_aside(self, call_id: str) -> None:
        """Leave the slot of a call to another; it stays under way."""
        was_full = not self.free
        self._aside.add(call_id)
        if was_full:
            self._queued.set()

    def leave_place(self, held: UnderWay, attempt: Attempt | None) -> None:
        """Give the place at the downstream back, where that was not done before, as of `Place.leave`."""
        if held.place is not None:
            held.place.leave(None if held.given_up else attempt)
            if held.place.others_wait:
                self._queued.set()

    def drop(self, call_id: str, held: UnderWay | None) -> None:
        """Let go of the slot, where there is one, of a call that was not admitted."""
        if held is not None:
            held.abandon()
            self.release(call_id)

    async def until_idle(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()
