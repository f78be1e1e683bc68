"""The person behind a house: approves and rejects what is parked, while engines die under them."""

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import anyio
import anyio.to_thread
from crash.house import House
from crash.notes import VERDICTS, Notes

from holdfast_server.engine.client import EngineClient, connect
from holdfast_store.model.errors import HoldfastError, NotFound, WrongState

PAUSE_S = (0.2, 1.0)
APPROVED = 0.75
SETTLE_S = 60.0


class Approver:
    """Decides by chance; a rejection that was acknowledged must never run."""

    def __init__(self, house: House, seed: int) -> None:
        self._house = house
        self._random = random.Random(f"{seed}/approver/{house.transport}")
        self._notes = Notes(house.workspace.folder / VERDICTS)
        self._one_at_a_time = anyio.Lock()
        self._settling = False

    async def run(self) -> None:
        """Decide now and then, until there is only to `settle`."""
        while True:
            await anyio.sleep(self._random.uniform(*PAUSE_S))
            async with self._one_at_a_time:
                if self._settling:
                    return
                await anyio.to_thread.run_sync(self._decide_all)

    async def settle(self) -> None:
        """Decide until nothing is parked, queued or running, for at most `SETTLE_S`: what is left then is stuck."""
        self._settling = True
        deadline = time.monotonic() + SETTLE_S
        async with self._one_at_a_time:
            while self._unsettled() and time.monotonic() < deadline:
                await anyio.to_thread.run_sync(self._decide_all)
                await anyio.sleep(0.05)

    def _unsettled(self) -> int:
        (path,) = self._house.workspace.state_home.glob("holdfast/*/state.db")
        open_states = "('queued', 'running', 'waiting_for_approval', 'waiting_for_input')"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            (count,) = store.execute(f"SELECT count(*) FROM calls WHERE state IN {open_states}").fetchone()
        return int(count)

    def _decide_all(self) -> None:
        """Look once. An engine that is not there, or dies meanwhile, is asked again the next time."""
        workspace = self._house.workspace
        try:
            start = self._house.transport == "stdio"
            with connect(workspace.config, start=start, environ=workspace.environment) as engine:
                parked = engine.call_tool("list_approvals", {"limit": 1000})["approvals"]
                for approval in parked:
                    self._decide(engine, approval["id"], approval["call_id"])
        except HoldfastError as error:
            self._notes.write(away=str(error).splitlines()[0])

    def _decide(self, engine: EngineClient, approval_id: str, call_id: str) -> None:
        verdict = "approve" if self._random.random() < APPROVED else "reject"
        reason = {"reason": "drawn by lot"} if verdict == "reject" else {}
        ask: Callable[[], object] = partial(engine.call_tool, verdict, {"approval_id": approval_id, **reason})
        self._notes.write(decided=call_id, verdict=verdict, acknowledged=False)
        try:
            ask()
        except (NotFound, WrongState):  # withdrawn meanwhile, or decided by a verdict whose answer was lost
            return
        self._notes.write(decided=call_id, verdict=verdict, acknowledged=True)
