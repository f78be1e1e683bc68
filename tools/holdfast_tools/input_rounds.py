"""Rounds of input as the requester meets them: named by a sealed state, taken up once, answered, put to who waits."""

import anyio

from holdfast_store.contract import Answer, Moved, Stale, Store, WriteResult
from holdfast_store.model.errors import NotFound
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import Call, Json, Principal
from holdfast_tools.catalog import Tool
from holdfast_tools.request import CallRequest
from holdfast_tools.rounds import Ask, InvalidRequestState, Seal, Unanswered
from holdfast_tools.runner import Runner
from holdfast_tools.steps import ENGINE, Steps
from holdfast_tools.waiters import Waiters


class InputRounds:
    """Takes answers in and has their calls go on."""

    def __init__(self, store: Store, runner: Runner, waiters: Waiters, seal: Seal) -> None:
        self._store = store
        self._runner = runner
        self._waiters = waiters
        self._seal = seal
        self._steps = Steps(store, waiters)

    def request_state(self, call: Call) -> str:
        """What a client of the stateless era sends back with its answers to the open round of `call`."""
        return self._seal.state(call, call.round.number if call.round is not None else 0)

    async def answer(self, call_id: str, principal: Principal, responses: Json, *, number: int) -> Call:
        """Take answers to round `number` of a call, by the downstream's own keys; the last one moves the call on.

        Returns the call as it then stands. What answers nothing changes nothing. Raises `NotFound` where there is no
        such call.
        """
        (result,) = await self._store.commit((Answer(call_id, number, principal.id, responses),))
        call = self._moved_on(result)
        if call is None:
            raise NotFound(f'There is no task "{call_id}".')
        return call

    async def named(self, request: CallRequest, tool: Tool, fingerprint: str, state: str) -> tuple[Call, int]:
        """The call and the number of the round that `state` names.

        Raises `InvalidRequestState` where it was not sealed for this requester, tool and arguments.
        """
        named = Seal.names(state)
        call = await self._store.get_call(named[0]) if named is not None else None
        if named is not None and call is not None:
            asker = (request.principal.tenant, request.principal.id, tool.canonical, fingerprint)
            bound = (call.tenant, call.principal, call.tool, call.fingerprint)
            if asker == bound and self._seal.holds(state, call, named[1]):
                return call, named[1]
        raise InvalidRequestState(
            f"The requestState is not one that was given out for this call of {tool.name} with these arguments. "
            "Nothing ran. Make the call again without it."
        )

    async def take_up(self, request: CallRequest, tool: Tool, call: Call, number: int) -> tuple[Call, bool]:
        """Have `call` go on with the answers of `request`; with it, whether it had gone on by itself before.

        A downstream that waits for its answers in the midst of an attempt gets all of them or none: while one is
        missing, the round stays open. Raises `InvalidRequestState` where the round is over.
        """
        answers, client = request.input_responses or {}, request.client.to_json() or None
        final = call.round is None or not call.round.attached
        write = Answer(call.id, number, request.principal.id, answers, final=final, client=client)
        (result,) = await self._store.commit((write,))
        if isinstance(result, Stale) and result.call is not None and await self._went_on_by_itself(call, number):
            return result.call, True
        if not isinstance(result, Moved):
            raise InvalidRequestState(
                f"What {tool.name} asked was answered before, or not in time: each requestState can be used once. "
                f"Nothing more ran for this request; the call is {call.id}."
            )
        return self._moved_on(result) or result.call, False

    async def put_to_client(self, call: Call, ask: Ask, within_s: float | None = None) -> Call | None:
        """Ask the client that waits what the downstream asked; None where nothing more can come of that.

        Where the client refuses, the call ends: the downstream gets no answer. What the client answered is kept,
        whatever trouble the store is in. After `within_s` the question is taken back from this client, and stays open.
        """
        if call.round is None:
            return None
        answers: Json | None = None
        try:
            with anyio.move_on_after(within_s):
                answers = await ask(call.round.unanswered)
        except Unanswered as refused:
            return await self._runner.fail_unanswered(call, str(refused))
        if answers is None:
            return None
        given = Answer(call.id, call.round.number, call.principal, answers)
        return self._moved_on(await self._steps.commit(given))

    async def _went_on_by_itself(self, call: Call, number: int) -> bool:
        """Whether the downstream asked nothing in that round and Holdfast called again without the client's request."""
        return any(
            (entry.event, entry.actor, entry.detail.get("round")) == (Event.ANSWER, ENGINE, number)
            for entry in await self._store.journal(call.id)
        )

    def _moved_on(self, result: WriteResult) -> Call | None:
        """Have a call that was answered go on at once; what it became."""
        if not isinstance(result, Moved | Stale):
            raise TypeError(f"an answer was answered with {result!r}")
        if isinstance(result, Moved):
            self._waiters.notify(result.call)
            self._runner.go_on(result.call)
        return result.call
