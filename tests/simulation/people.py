"""Who acts from outside: agents that call, repeat, leave and cancel, approvers, admins, and misfortune."""

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from simulation.answering import HANDSHAKE_ERA, Answering, profile_of
from simulation.ledger import Vote
from simulation.offer import APPROVERS, DORA, DOWNSTREAMS, SKETCHES
from simulation.probes import Rare

from holdfast_store.contract import CallFilter
from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Approval, ApprovalStatus, Call, Principal, VerdictKind
from holdfast_tools.request import CallRequest, Reply

if TYPE_CHECKING:
    from simulation.engine import EngineProcess
    from simulation.world import World

LONG_S = 30.0
"""How long people wait for an answer."""

_WEIGHTS = {
    "look": 1,
    "audit": 1,
    "write": 6,
    "hasty": 7,
    "put": 9,
    "flaky": 3,
    "order": 3,
    "pay": 8,
    "wire": 3,
    "wipe": 1,
    "survey": 6,
    "inquire": 5,
    "export": 4,
    "report": 3,
}

_WEIGHTS_IN_LINE = {"append": 4, "update": 4, "book": 2, "enroll": 2, "ship": 2}
"""Of tools whose calls run one at a time, times `Plan.lines`."""


class Agent:
    """A client with one principal: makes calls, and does with them what agents do."""

    def __init__(self, world: "World", principal: Principal, random: Random, number: int) -> None:
        self._world = world
        self._principal = principal
        self._random = random
        self._number = number
        self._profile = profile_of(random, world.plan.silent)
        self._answering = Answering(world, principal, random)

    async def run(self) -> None:
        for _ in range(self._world.plan.calls_per_client):
            await asyncio.sleep(self._random.choice((0.0, self._random.uniform(0.0, 3.0))))
            await self._pursue(self._intent())

    def _intent(self) -> CallRequest:
        random = self._random
        in_line = {tool: weight * self._world.plan.lines for tool, weight in _WEIGHTS_IN_LINE.items()}
        weights = {**_WEIGHTS, **in_line}
        (tool,) = random.choices(tuple(weights), tuple(weights.values()))
        alike = self._world.plan.alike
        arguments: dict[str, object] = {"n": random.randrange(alike)}
        key = None
        if SKETCHES[tool].takes_key:
            arguments["ref"] = f"ref-{random.randrange(alike)}"
            if random.random() < 0.9:
                arguments["n"] = 0
        elif random.random() < 0.4:
            number = random.randrange(alike)
            key = f"key-{number}"
            if random.random() < 0.9:
                arguments["n"] = number
        hurried = random.random() < self._world.plan.hurry
        if hurried:
            self._world.note(Rare.DEADLINE_GIVEN)
        return CallRequest(
            principal=self._principal,
            client=self._profile,
            ask=self._answering.ask if self._profile is HANDSHAKE_ERA and random.random() < 0.7 else None,
            deadline_s=random.choice((0.1, 1.0, random.uniform(0.0, 10.0))) if hurried else None,
            tool=f"{random.choice(DOWNSTREAMS)}__{tool}",
            arguments=arguments,
            key=key,
            client_call_id=f"intent-{random.getrandbits(32)}" if random.random() < 0.2 else None,
        )

    async def _pursue(self, intent: CallRequest) -> None:
        """Call; where no answer comes, call again: that is what a client that gave up does."""
        random, plan = self._random, self._world.plan
        for _ in range(random.randint(1, 3) if random.random() < plan.repeats else 1):
            impatient = random.random() < plan.impatient
            patience_s = random.choice((0.05, 0.6, random.uniform(0.0, 5.0))) if impatient else 2 * LONG_S
            calls = [self._call(intent, patience_s, silent=random.random() < 0.2)]
            if random.random() < plan.repeats / 4:
                calls.append(self._call(intent, patience_s, silent=False))
            reply = (await asyncio.gather(*calls))[0]
            if isinstance(reply, Reply):
                call = await self._answering.follow(reply.call, intent, self._send)
                await self._follow(call)
                if random.random() > plan.repeats:
                    return
            await asyncio.sleep(random.choice((0.1, 0.7, random.uniform(0.0, 10.0))))

    async def _send(self, request: CallRequest) -> object:
        """Make a call once more, with the answers that it carries."""
        return await self._call(request, 2 * LONG_S, silent=False)

    async def _call(self, intent: CallRequest, patience_s: float, *, silent: bool) -> object:
        world = self._world
        number = len(world.ledger.requests) + 1
        traceparent = f"00-{number:032x}-{self._number + 1:016x}-01"
        request = replace(intent, traceparent=traceparent)
        world.ledger.requests[number] = request
        world.log("calls", f"client {self._number}", number, request.tool, request.arguments, request.key)
        reply = await world.ask(
            lambda engine: engine.gateway.call(request),
            patience_s,
            silent=silent,
            request=number,
            principal=request.principal,
        )
        if isinstance(reply, Reply):
            call = reply.call
            if (call.principal, call.tool, call.arguments, call.key or request.key) != (
                request.principal.id,
                request.tool,
                request.arguments,
                request.key or call.key,
            ):
                world.broken("answered-by-another", f"request {number} was answered by {call.id}, another call")
        else:
            name = type(getattr(reply, "error", reply)).__name__
            world.log("gets", f"client {self._number}", number, name)
            world.ledger.refused.append((number, name, str(getattr(reply, "error", ""))))
        return reply

    async def _follow(self, call: Call) -> None:
        """Do something with a call that this agent was told of."""
        world, random = self._world, self._random
        if random.random() < world.plan.meddling:
            await asyncio.sleep(random.choice((0.0, random.uniform(0.0, 3.0))))
            await self._meddle(call)
        if not call.ended and random.random() < 0.7:
            timeout_s = random.uniform(0.0, LONG_S)

            async def wait(engine: "EngineProcess") -> object:
                own = await engine.operations.own_call(call.id, self._principal)
                return await engine.gateway.wait_until_ended(own.id, timeout_s) or own

            await world.ask(wait, 2 * LONG_S, principal=self._principal)

    async def _meddle(self, call: Call) -> None:
        resumes = self._random.random() < 0.3

        async def meddle(engine: "EngineProcess") -> object:
            own = await engine.operations.own_call(call.id, self._principal)
            if resumes or own.ended:
                self._world.note(Rare.RESUME)
                return await engine.operations.resume(own, self._principal, admin=False)
            self._world.note(Rare.CANCEL)
            self._world.ledger.cancels.add(own.id)
            return await engine.operations.cancel(own, self._principal)

        self._world.log("resumes or cancels", f"client {self._number}", call.id[:6])
        await self._world.ask(meddle, LONG_S, principal=self._principal)


async def approve(world: "World", random: Random) -> None:
    """Decide what is asked, now and then all people at once."""
    while not world.calm:
        await asyncio.sleep(random.uniform(0.0, 2 * world.plan.approvers_pause_s))
        page = await world.ask(lambda engine: engine.store.list_approvals(ApprovalStatus.PENDING, 20), LONG_S)
        items = getattr(page, "items", ())
        if items:
            approval = random.choice(items)
            people = APPROVERS if random.random() < 0.4 else (random.choice(APPROVERS),)
            if len(people) > 1:
                world.note(Rare.VOTES_RACE)
            await asyncio.gather(*(_decide(world, approval, person, random) for person in people))


async def _decide(world: "World", approval: Approval, person: Principal, random: Random) -> None:
    kind = VerdictKind.APPROVE if random.random() < 0.8 else VerdictKind.REJECT

    async def decide(engine: "EngineProcess") -> object:
        after, _ = await engine.operations.decide(approval.id, person, kind, "")
        world.ledger.votes.append(Vote(world.moment(), approval.id, person.id, kind.value, after.status))
        world.log("decides", person.id, kind.value, approval.id[:6], after.status.value)
        return None

    await asyncio.sleep(random.choice((0.0, random.uniform(0.0, 0.02))))
    await world.ask(decide, LONG_S)


async def resolve(world: "World", random: Random) -> None:
    """An honest admin: finds out at the downstream what became of a call in doubt, and says so."""
    doubtful = CallFilter(states=frozenset({State.IN_DOUBT}))
    while not world.calm:
        await asyncio.sleep(random.uniform(1.0, 15.0))
        page = await world.ask(lambda engine: engine.store.list_calls(doubtful, 20), LONG_S)
        for call in getattr(page, "items", ()):
            sent = [each for each in world.ledger.sendings if each.call == call.id]
            if any(each.begun is None and not each.dead for each in sent):
                continue
            begun = any(each.begun is not None for each in sent)
            resolution = "done" if begun else random.choice(("failed", "retry"))

            async def settle(engine: "EngineProcess", call: Call = call, resolution: str = resolution) -> object:
                return await engine.operations.resolve(call, DORA, resolution, None, "looked")  # type: ignore[arg-type]

            world.log("resolves", call.id[:6], resolution)
            await world.ask(settle, LONG_S)


async def misfortune(world: "World", random: Random) -> None:
    """Crashes, stops, cuts, deaths and set clocks, at the plan's rates."""
    plan = world.plan
    rates = {
        "crash": plan.crash_rate,
        "stop": plan.stop_rate,
        "cut": plan.cut_rate,
        "kill": plan.kill_rate,
        "skew": plan.skew_rate,
    }
    total = sum(rates.values())
    while total and not world.calm:
        await asyncio.sleep(random.expovariate(total))
        if world.calm:
            return
        (what,) = random.choices(tuple(rates), tuple(rates.values()))
        server = world.servers[random.choice(DOWNSTREAMS)]
        match what:
            case "crash":
                world.crash_soon()
            case "stop":
                if world.engine is not None:
                    world.engine.stop()
                    world.note(Rare.STOP)
            case "cut":
                server.cut("cut")
                world.note(Rare.CUT)
            case "kill":
                server.die()
            case _:
                world.skew_s += random.choice((-1, 1)) * random.choice((0.7, 5.0, 50.0))
                world.note(Rare.CLOCK_SET)
                world.log("clock set", world.skew_s)
