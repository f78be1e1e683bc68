"""Engines, downstreams, clients and shims are killed under load, again and again, at moments drawn from a seed.

    python -m crash.storm [--kills 1000] [--seed N] [--json] [--keep FOLDER]
    python -m crash.storm --judge FOLDER

Two houses, one on stdio and one on HTTP, each with clients of both eras (see `house`, `client`). A seed draws who is
killed, the pauses, and what each call asks for; how far the processes have come at that moment no seed can fix.
Ctrl-C ends the killing and judges what there is; a second one ends at once. Exit code 0: every promise held. 1: one
was broken; then the folder with all evidence is kept. 130: interrupted, and nothing was broken so far.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash import evidence
from crash.approver import Approver
from crash.house import House, Kind, Stuck, Transport
from crash.judge import judge
from crash.report import Report

INTERRUPTED = 130

TRANSPORTS: tuple[Transport, ...] = ("stdio", "http")
KILLS: dict[Kind, int] = {"engine": 11, "downstream": 5, "client": 3, "shim": 1}
"""What is killed, in every twenty kills; in which order is drawn."""

LIFE_S = (0.05, 1.5)
"""How long what serves again is left alive."""

HASTE = 0.05
"""How often the next engine is killed as well, while it starts: this share of the kills of engines."""
HASTE_S = (0.0, 0.8)

PROGRESS_S = 10.0


@dataclass(frozen=True)
class Plan:
    """How much of it: `clients` processes per house with `callers` callers each."""

    kills: int
    seed: int
    clients: int = 2
    callers: int = 2


class Storm:
    """One run in `folder`: until `plan.kills` processes were killed and every call has its answer."""

    def __init__(self, folder: Path, plan: Plan, *, progress: bool = False) -> None:
        self.plan = plan
        self.killed = 0
        self.interrupted = False
        self.aborted = False
        self.stuck: list[str] = []
        self._progress = progress
        self._random = random.Random(f"{plan.seed}/killer")
        self._began = time.monotonic()
        self._houses = [
            House(folder / transport, transport, 1 + at * plan.clients, plan.clients, plan.callers, plan.seed)
            for at, transport in enumerate(TRANSPORTS)
        ]

    async def run(self) -> None:
        """Blow, let it settle, and end all of it."""
        approvers = [Approver(house, self.plan.seed) for house in self._houses]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_on_signal, tasks.cancel_scope)
            for house, approver in zip(self._houses, approvers, strict=True):
                tasks.start_soon(house.run)
                tasks.start_soon(approver.run)
            try:
                await self._kill_again_and_again()
                self._say("no more kills: waiting for what is under way")
                for house in self._houses:
                    await house.finish()
                for house, approver in zip(self._houses, approvers, strict=True):
                    await approver.settle()
                    await house.end()
            except Stuck as error:
                self.stuck.append(str(error))
            finally:
                for house in self._houses:
                    house.abandon()
                tasks.cancel_scope.cancel()

    @property
    def unforeseen(self) -> list[str]:
        """Processes that ended though nobody had killed them."""
        return [sentence for house in self._houses for sentence in house.broken]

    async def _stop_on_signal(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                if self.interrupted:
                    self.aborted = True
                    scope.cancel()
                    return
                self.interrupted = True
                self._say("interrupted: settling and judging what there is (Ctrl-C again ends at once)")

    async def _kill_again_and_again(self) -> None:
        for house in self._houses:
            await house.serving()
        told_at = time.monotonic()
        deck: list[Kind] = []
        while self.killed < self.plan.kills and not self.interrupted:
            deck = deck or self._random.sample(list(KILLS), k=sum(KILLS.values()), counts=list(KILLS.values()))
            await anyio.sleep(self._random.uniform(*LIFE_S))
            kind = deck.pop()
            house = self._random.choice(self._houses if kind != "shim" else self._houses[:1])
            await self._kill_one(house, kind)
            if time.monotonic() - told_at >= PROGRESS_S:
                told_at = time.monotonic()
                self._say_how_far()

    async def _kill_one(self, house: House, kind: Kind) -> None:
        """Kill one of this kind; of an engine and a downstream, wait until the next one serves."""
        pid = self._random.choice(await house.some(kind))
        at = house.kill(kind, pid)
        self.killed += 1
        if kind == "engine":
            while self.killed < self.plan.kills and self._random.random() < HASTE:
                pid = await house.next_engine(pid)
                await anyio.sleep(self._random.uniform(*HASTE_S))
                at = house.kill("engine", pid)
                self.killed += 1
            await house.engine_back(pid, at)
        elif kind == "downstream":
            await house.downstream_back(pid, at)

    def _say_how_far(self) -> None:
        spent_s = time.monotonic() - self._began
        left_s = spent_s / self.killed * (self.plan.kills - self.killed)
        answers = sum(house.answers for house in self._houses)
        self._say(f"{self.killed} of {self.plan.kills} kills, {answers} answers; about {left_s / 60:.0f} min to go")

    def _say(self, words: str) -> None:
        if self._progress:
            print(f"crash: {words}", file=sys.stderr, flush=True)


def blow(folder: Path, plan: Plan, *, progress: bool = False) -> tuple[Report, bool]:
    """Run one storm in a new folder and judge it; also, whether it was interrupted. Exits where that was twice."""
    folder.mkdir(parents=True, exist_ok=True)
    storm = Storm(folder, plan, progress=progress)
    anyio.run(storm.run)
    if storm.aborted:
        sys.exit(INTERRUPTED)
    report = judged(folder)
    report.stuck += len(storm.stuck)
    report.unforeseen += len(storm.unforeseen)
    report.broken.extend([*storm.stuck, *storm.unforeseen])
    return report, storm.interrupted


def judged(folder: Path) -> Report:
    """Judge what is left of a storm in `folder`."""
    report = Report()
    for transport in TRANSPORTS:
        report.add(judge(evidence.read(folder / transport)))
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="crash", description="Kill processes under load, and judge every call.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the evidence here, whatever it says")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge the evidence of an earlier storm")
    options = parser.parse_args(arguments)
    if options.judge is not None:
        return _print(judged(options.judge), as_json=options.json)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="hf-"))
    began = time.monotonic()
    report, interrupted = blow(folder, Plan(options.kills, options.seed), progress=True)
    code = _print(report, as_json=options.json)
    replay = f'make crash ARGS="--kills {options.kills} --seed {options.seed}"'
    print(f"crash: {time.monotonic() - began:.0f} s; the same kills again: {replay}", file=sys.stderr)
    if report.broken:
        print(f"crash: the evidence is kept in {folder}; judge it again with --judge", file=sys.stderr)
    elif options.keep is None:
        shutil.rmtree(folder)
    return code or (INTERRUPTED if interrupted else 0)


def _print(report: Report, *, as_json: bool) -> int:
    print(json.dumps(report.figures(), indent=2) if as_json else report.text())
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
