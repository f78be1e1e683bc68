"""One seed, one run: set the world up, let it live, let it come to rest, judge it."""

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from simulation.judge import judge
from simulation.loop import Stalled, VirtualLoop
from simulation.offer import AGENTS
from simulation.people import Agent, approve, misfortune, resolve
from simulation.plan import Plan, plan_of
from simulation.probes import Rare, row_of
from simulation.stand_ins import stand_ins
from simulation.verdict import Violation
from simulation.world import World

from holdfast_store.model.lifecycle import TRANSITIONS

LIFE_S = 240.0
"""How long, at most, agents go on before the faults end."""

REST_S = 900.0
"""How long what is left may take to come to rest; every expiry and pause is over by then."""

_LOOK_S = 5.0

_SEEDS_PER_COLLECTION = 16
"""Garbage is collected between runs: within one it would only take time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a seed. `events` and `rows` are what it came through, as `probes.Coverage` counts it."""

    seed: int
    plan: Plan
    violations: tuple[Violation, ...]
    virtual_s: float
    real_s: float
    steps: int
    calls: int
    crashes: int
    effects: int
    doubts: int
    events: Mapping[str, int]
    rows: Mapping[str, int]
    trace: tuple[str, ...]


class _Listener(logging.Handler):
    """Enters what the product logs into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.log("  log", record.getMessage(), getattr(record, "error", ""))


def simulate(seed: int, *, changes: tuple[str, ...] = (), traced: bool = False) -> Run:
    """Run `seed`. `changes` alter the store's tables first; with `traced` the run tells its story."""
    began = time.perf_counter()
    random = Random(seed)
    plan = plan_of(random)
    loop = VirtualLoop(Random(seed + 1), shuffled=plan.shuffled)
    asyncio.events._set_running_loop(loop)
    try:
        world = World(loop, random, plan, changes, traced=traced)
    finally:
        asyncio.events._set_running_loop(None)
    previous = logging.root.manager.disable
    collects = gc.isenabled()
    gc.disable()
    listener = _Listener(world)
    if traced:
        logging.root.addHandler(listener)
    else:
        logging.disable(logging.CRITICAL)
    try:
        with stand_ins(Random(seed + 2), world.clock):
            try:
                loop.run_until_complete(_live(world))
            except Stalled:
                world.broken("stalled", "nothing was left to happen")
            violations = tuple(world.violations) or judge(world)
            figures = _figures(world)
            rows = _rows_taken(world)
            story = _told(world) if traced else ()
            loop.dispose()
    finally:
        logging.disable(previous)
        logging.root.removeHandler(listener)
        if collects:
            gc.enable()
        if seed % _SEEDS_PER_COLLECTION == 0:
            gc.collect()
        world.database.close()
    return Run(
        seed=seed,
        plan=plan,
        violations=violations,
        virtual_s=loop.time(),
        real_s=time.perf_counter() - began,
        steps=loop.steps,
        calls=figures[0],
        crashes=world.crashes,
        effects=sum(each.begun is not None for each in world.ledger.sendings),
        doubts=figures[1],
        events=world.came_through,
        rows=rows,
        trace=story,
    )


async def _live(world: World) -> None:
    life = asyncio.get_running_loop().create_task(_course(world))
    await asyncio.wait((life, world.is_broken), return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        life.result()


async def _course(world: World) -> None:
    loop, random = world.loop, world.random
    loop.create_task(world.supervise())
    agents = [
        loop.create_task(Agent(world, random.choice(AGENTS), Random(random.random()), number).run())
        for number in range(world.plan.clients)
    ]
    others = [
        loop.create_task(approve(world, Random(random.random()))),
        loop.create_task(approve(world, Random(random.random()))),
        loop.create_task(misfortune(world, Random(random.random()))),
    ]
    if world.plan.has_admin:
        others.append(loop.create_task(resolve(world, Random(random.random()))))
    await asyncio.wait(agents, timeout=LIFE_S)
    world.calm = True
    world.log("calm")
    await asyncio.wait((*agents, *others), timeout=REST_S)
    for task in (*agents, *others):
        if task.done():
            task.result()
        else:
            world.broken("client-stuck", "somebody waits for an answer that never comes")
            return
    await _rest(world)


async def _rest(world: World) -> None:
    """Until every call has ended or is in doubt, or time is up."""
    give_up = world.loop.time() + REST_S
    while world.loop.time() < give_up:
        await asyncio.sleep(_LOOK_S)
        (left,) = world.database.execute(
            "SELECT count(*) FROM calls WHERE ended_at IS NULL AND state <> 'in_doubt'"
        ).fetchone()
        if left == 0:
            break
    await asyncio.sleep(_LOOK_S)


def _figures(world: World) -> tuple[int, int]:
    with suppress(Exception):
        calls, doubts = world.database.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'in_doubt') FROM calls"
        ).fetchone()
        return calls, doubts
    return 0, 0


def _rows_taken(world: World) -> Counter[str]:
    """The rows of the lifecycle table that calls went along, by the journal."""
    names = {row.event.value for row in TRANSITIONS}
    states: dict[int, str] = {}
    taken: Counter[str] = Counter()
    entries = world.database.execute(
        "SELECT j.call, j.event, j.state, c.deadline_at <= j.at FROM journal j"
        " JOIN calls c ON c.seq = j.call ORDER BY j.seq"
    )
    for call, event, state, overdue in entries:
        if event in names:
            taken[row_of(event, states.get(call))] += 1
            if overdue and event == "expire":
                world.note(Rare.DEADLINE_PASSED)
        states[call] = state
    return taken


def _told(world: World) -> tuple[str, ...]:
    """The trace, with the journal's entries in their places."""
    entries = world.database.execute(
        "SELECT w.moment, w.instant, c.id, j.event, j.state, j.attempt, j.actor, j.detail FROM journal j"
        " JOIN journal_moments w ON w.seq = j.seq JOIN calls c ON c.seq = j.call"
    )
    lines = [(moment, 1, at, what, details) for moment, at, what, details in world.trace]
    for moment, at, call, event, state, attempt, actor, detail in entries:
        lines.append(
            (moment, 0, at, "  journal", f"{call[:6]} {event} -> {state}, attempt {attempt}, by {actor} {detail or ''}")
        )
    lines.sort(key=lambda line: line[:2])
    return tuple(f"{at:9.4f}  {what:<20} {details}" for _, _, at, what, details in lines)
