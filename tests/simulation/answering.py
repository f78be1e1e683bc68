"""What clients do with what they are asked: answer, in parts or late or wrongly, twice at once, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from simulation.engine import SEAL_KEY
from simulation.ledger import Offer
from simulation.offer import AGENTS
from simulation.probes import Rare

from holdfast_store.model.lifecycle import State
from holdfast_store.model.values import Call, Json, Principal
from holdfast_tools.client import SILENT, ClientProfile
from holdfast_tools.request import CallRequest, Reply
from holdfast_tools.rounds import Seal, Unanswered

if TYPE_CHECKING:
    from simulation.engine import EngineProcess
    from simulation.world import World

MODERN = ClientProfile(protocol_version="2026-07-28", capabilities={"elicitation": {}})
HANDSHAKE_ERA = ClientProfile(protocol_version="2025-11-25", capabilities={"elicitation": {}})

MOST_ROUNDS = 8
"""How often a client goes on answering for one call."""

_PATIENCE_S = 60.0

SendAgain = Callable[[CallRequest], Awaitable[object]]
"""Makes a call and answers what came of it."""


def profile_of(random: Random, silent: float) -> ClientProfile:
    """What a client says of itself."""
    return SILENT if random.random() < silent else random.choice((MODERN, HANDSHAKE_ERA))


class Answering:
    """One client's way with questions."""

    def __init__(self, world: "World", principal: Principal, random: Random) -> None:
        self._world = world
        self._principal = principal
        self._random = random

    # --- asked while it waits ---------------------------------------------------------------------------------

    async def ask(self, requests: Json) -> Json:
        """Answer what is put to a client of the handshake era. Raises `Unanswered` where it will not."""
        for request in requests.values():
            self._world.watch.asked(self._world.ledger.question(request), self._principal)
        await asyncio.sleep(self._thinking_s())
        if self._is_clumsy(4):
            self._world.note(Rare.CLIENT_WILL_NOT_ANSWER)
            raise Unanswered("the client said no")
        answers = {}
        for key, request in requests.items():
            question = self._world.ledger.question(request)
            offer = self._world.ledger.offer(question.sending.call or "", 0, question.key, self._principal.id)
            answers[key] = offer.content
        return answers

    # --- asked by a reply -------------------------------------------------------------------------------------

    async def follow(self, call: Call, intent: CallRequest, send: SendAgain) -> Call:
        """Answer round after round of `call`, as well as this client does; the call as it was told of last."""
        for _ in range(MOST_ROUNDS):
            if call.state is not State.WAITING_FOR_INPUT or call.round is None:
                return call
            for request in call.round.requests.values():
                self._world.watch.asked(self._world.ledger.question(request), self._principal)
            after = await self._answer(call, intent, send)
            if after is None:
                return call
            call = after
        return call

    async def _answer(self, call: Call, intent: CallRequest, send: SendAgain) -> Call | None:
        world, random = self._world, self._random
        if call.round is None:
            return None
        await asyncio.sleep(self._thinking_s())
        if random.random() < world.plan.intruding:
            await self._intrude(call, intent, send)
        if self._is_clumsy(3):
            return None
        ways = [self._by_state, self._by_id]
        random.shuffle(ways)
        if self._is_clumsy(3) and call.round.requests:
            world.note(Rare.ANSWERS_RACE)
            first, _ = await asyncio.gather(*(way(call, intent, send) for way in ways))
            return first
        if self._is_clumsy(4):
            world.note(Rare.CANCEL_RACES_ANSWER)
            first, _ = await asyncio.gather(ways[0](call, intent, send), self._cancel(call))
            return first
        return await ways[0](call, intent, send)

    def _thinking_s(self) -> float:
        random = self._random
        late = self._is_clumsy(3)
        return random.uniform(5.0, 150.0) if late else random.choice((0.0, 0.1, random.uniform(0.0, 4.0)))

    def _is_clumsy(self, share: int) -> bool:
        return self._random.random() < self._world.plan.clumsy / share

    async def _by_state(self, call: Call, intent: CallRequest, send: SendAgain) -> Call | None:
        """As the stateless era answers: the call is made again, with the state that it was given."""
        number = self._number(call)
        offers = self._offers(call, number)
        again = self._again(call, intent, number, {key: offer.content for key, offer in offers.items()})
        reply = await send(again)
        if not isinstance(reply, Reply):
            self._world.note(Rare.ANSWER_REFUSED)
            return None
        self._acknowledge(reply.call, number, offers)
        return reply.call

    def _again(self, call: Call, intent: CallRequest, number: int, answers: Json) -> CallRequest:
        return CallRequest(
            principal=intent.principal,
            tool=intent.tool,
            arguments=intent.arguments,
            client=intent.client,
            request_state=Seal(SEAL_KEY).state(call, number),
            input_responses=answers,
        )

    async def _by_id(self, call: Call, intent: CallRequest, send: SendAgain) -> Call | None:
        """As `tasks/update` answers, which may leave some for later."""
        number = self._number(call)
        offers = self._offers(call, number)
        if len(offers) > 1 and self._random.random() < 0.7:
            self._world.note(Rare.ANSWER_IN_PARTS)
            await self._update(call, self._principal, number, dict([offers.popitem()]))
            await asyncio.sleep(self._thinking_s())
            offers = self._offers(call, number) if self._random.random() < 0.5 else offers
        after = await self._update(call, self._principal, number, offers)
        if after is None or after.round is None:
            return None
        return await self._look(call)

    async def _update(self, call: Call, by: Principal, number: int, offers: dict[str, Offer]) -> Call | None:
        async def update(engine: "EngineProcess") -> Call:
            own = await engine.operations.own_call(call.id, by)
            answers = {key: offer.content for key, offer in offers.items()}
            return await engine.gateway.answer_input(own.id, by, answers, number=number)

        after = await self._world.ask(update, _PATIENCE_S, principal=by)
        if not isinstance(after, Call):
            self._world.note(Rare.ANSWER_REFUSED)
            return None
        self._acknowledge(after, number, offers)
        return after

    async def _look(self, call: Call) -> Call | None:
        async def wait(engine: "EngineProcess") -> Call:
            own = await engine.operations.own_call(call.id, self._principal)
            return await engine.gateway.wait_until_ended(own.id, self._random.uniform(0.0, 5.0)) or own

        after = await self._world.ask(wait, _PATIENCE_S, principal=self._principal)
        return after if isinstance(after, Call) else None

    def _number(self, call: Call) -> int:
        """The number of the round, or now and then another one."""
        number = call.round.number if call.round is not None else 0
        if self._is_clumsy(4):
            self._world.note(Rare.ANSWER_TO_ANOTHER_ROUND)
            return max(0, number + self._random.choice((-1, 1)))
        return number

    def _offers(self, call: Call, number: int) -> dict[str, Offer]:
        requests = call.round.requests if call.round is not None else {}
        ledger, misnamed = self._world.ledger, call.round is not None and call.round.number != number
        return {
            key: ledger.offer(call.id, number, ledger.question(request).key, self._principal.id, misnamed=misnamed)
            for key, request in requests.items()
        }

    def _acknowledge(self, after: Call, number: int, offers: dict[str, Offer]) -> None:
        """Those count as taken that stand in the call with which the client was answered."""
        kept = after.round.answers if after.round is not None and after.round.number == number else {}
        for offer in (offer for key, offer in offers.items() if kept.get(key) == offer.content):
            offer.acknowledged = self._world.moment()
            self._world.note(Rare.ANSWER_TAKEN)
            self._world.log("answer taken", offer.call[:6], offer.round, offer.question, offer.number)

    async def _cancel(self, call: Call) -> None:
        async def cancel(engine: "EngineProcess") -> Call:
            own = await engine.operations.own_call(call.id, self._principal)
            self._world.ledger.cancels.add(own.id)
            return await engine.operations.cancel(own, self._principal)

        await asyncio.sleep(self._random.choice((0.0, self._random.uniform(0.0, 0.05))))
        await self._world.ask(cancel, _PATIENCE_S, principal=self._principal)

    async def _intrude(self, call: Call, intent: CallRequest, send: SendAgain) -> None:
        """Somebody else learnt the state, or the id, and answers."""
        world = self._world
        world.note(Rare.ANOTHER_PRINCIPAL_ANSWERS)
        stranger = next(person for person in AGENTS if person.id != self._principal.id)
        number = call.round.number if call.round is not None else 0
        offers = {
            key: world.ledger.offer(call.id, number, offer.question, stranger.id)
            for key, offer in self._offers(call, number).items()
        }
        if self._random.random() < 0.5:
            await self._update(call, stranger, number, offers)
            return
        answers = {key: offer.content for key, offer in offers.items()}
        again = self._again(call, intent, number, answers)
        request = CallRequest(
            principal=stranger,
            tool=again.tool,
            arguments=again.arguments,
            client=again.client,
            request_state=again.request_state,
            input_responses=answers,
        )
        await send(request)
