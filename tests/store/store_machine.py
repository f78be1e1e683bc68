"""A machine that does to a store whatever may happen to it, and compares it after each step with `ReferenceStore`."""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reference_admission import Impossible
from reference_results import Shape, fields_of, shape_of
from reference_rules import BEGUN, LIFE, TERMINAL, Fields, replayed
from reference_store import ReferenceStore
from store_backends import OpenStore
from store_builders import BROKEN, DENIED, PAID, WITHDRAWN, Clock, new_approval, new_call, requirement

from holdfast_store.contract import (
    Admit,
    Answer,
    CallFilter,
    Claim,
    Count,
    Decide,
    Dedupe,
    Expire,
    Follow,
    Lease,
    Mark,
    Move,
    Note,
    Purge,
    Purged,
    Record,
    Recover,
    Renew,
    Retention,
    Swept,
    Write,
    WriteResult,
)
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import Call, NewCall, Outcome, RemoteTask, Requirement, Round, VerdictKind

T = TypeVar("T")
Machine = Any
"""A strategy's runner: the machine that draws from it."""

EVERYTHING = 10_000
ENGINES = ("engine-1", "engine-2")
HOUR, DAY = 3600.0, 86400.0
SPANS = (0.25, 0.5, 1.0, 29.0, 30.0, 60.0, 61.0, 599.0, 600.0, 900.0, HOUR, DAY, DAY + 1, 90 * DAY, 400 * DAY)
QUESTION = {"method": "elicitation/create", "params": {"message": "Who?"}}
FINANCE = frozenset({"finance"})
BOTH = frozenset({"approver", "finance"})

leases = st.builds(Lease, st.sampled_from(ENGINES), st.sampled_from((30.0, 60.0)))
roles = st.sampled_from((BOTH, BOTH, frozenset({"approver"}), FINANCE, frozenset({"guest"})))
verdicts = st.fixed_dictionaries(
    {
        "principal": st.sampled_from(("ann", "bob", "cyd")),
        "roles": roles,
        "kind": st.sampled_from((VerdictKind.APPROVE, VerdictKind.APPROVE, VerdictKind.REJECT)),
        "comment": st.sampled_from(("", "no")),
    }
)
requirements: st.SearchStrategy[tuple[Requirement, ...]] = st.lists(
    st.builds(
        lambda minimum, wanted, prevented: requirement(
            min_verdicts=minimum, roles=wanted, prevent_self_review=prevented
        ),
        st.integers(1, 2),
        st.sampled_from((frozenset({"approver"}), FINANCE)),
        st.booleans(),
    ),
    min_size=1,
    max_size=2,
).map(tuple)
rounds = st.builds(
    lambda keys, attached: {"requests": dict.fromkeys(keys, QUESTION), "attached": attached},
    st.sampled_from((("name",), ("name", "city"))),
    st.booleans(),
)
ended = st.sampled_from((PAID, BROKEN, WITHDRAWN))
off_by = st.sampled_from((0, 0, 0, 0, 0, 0, -1, 1, None))
"""How far the fence of a write is off the call's; None names none."""


@st.composite
def calls(draw: st.DrawFn) -> Fields:
    """What a client asks for: of little variety, so that calls meet."""
    amount = draw(st.integers(1, 2))
    return {
        "tenant": draw(st.sampled_from(("a", "a", "a", "b"))),
        "principal": draw(st.sampled_from(("ann", "ann", "bob"))),
        "original_name": draw(st.sampled_from(("refund", "refund", "charge"))),
        "arguments": {"amount": amount},
        "key": draw(st.sampled_from((None, None, "k", "l"))),
        "client_call_id": draw(st.sampled_from((None, None, "c1", "c2"))),
        "retry_safe": draw(st.booleans()),
        "deadline_s": draw(st.sampled_from((None, None, 30.0, HOUR))),
        "line": draw(st.sampled_from((None, None, "1", "2"))),
    }


def in_state(*states: str) -> st.SearchStrategy[str]:
    """One of the calls in `states`."""
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.model.ids(*states)))


def when_there_is_one(*states: str) -> Callable[[Any], Any]:
    """Only where `in_state` of the same finds one."""
    return precondition(lambda machine: bool(machine.model.ids(*states)))


class StoreMachine(RuleBasedStateMachine):
    """One store, from empty to wherever the rules lead it."""

    def __init__(self, open_store: OpenStore) -> None:
        super().__init__()
        self._open = open_store
        self._folder = TemporaryDirectory(prefix="hf-")
        self._loop = asyncio.new_event_loop()
        self._numbers = count(1)
        self._terminal: dict[str, tuple[Any, ...]] = {}
        self._decided: dict[str, tuple[Any, ...]] = {}
        self.clock = Clock()
        self.model = ReferenceStore(Retention())
        self.store = self._run(self._open(Path(self._folder.name), self.clock))

    def teardown(self) -> None:
        try:
            self._run(self.store.close())
        finally:
            self._loop.close()
            self._folder.cleanup()

    @initialize(asked=st.lists(calls(), min_size=5, max_size=5), data=st.data())
    def something_is_there(self, asked: list[Fields], data: st.DataObject) -> None:
        """A call in every state that anything leaves, so that every rule has something to do."""
        for event, each in zip(("admit", "start", "park", "start", "start"), asked, strict=True):
            self._admit(each | {"line": None}, event, data, None)
        self._commit(*(Move(id_, Event.LOSE, "engine", 1, lost=True) for id_ in self.model.ids("running")[1:2]))
        for id_ in self.model.ids("running")[1:]:
            self._move(id_, "ask", 0, round=Round(1, **data.draw(rounds)))

    # --- what comes in ----------------------------------------------------------------------------------------

    @rule(
        asked=calls(), event=st.sampled_from(("admit", "start", "park", "deny")), dedupe=st.booleans(), data=st.data()
    )
    def admit(self, asked: Fields, event: str, dedupe: bool, data: st.DataObject) -> None:
        self._admit(asked, event, data, Dedupe() if dedupe else None)

    @rule(asked=calls(), data=st.data())
    @when_there_is_one()
    def ask_again(self, asked: Fields, data: st.DataObject) -> None:
        """What was asked before, perhaps with other arguments: replayed, joined, a conflict, purged, or new."""
        earlier = self.model.calls[data.draw(in_state())]
        same = {name: earlier[name] for name in ("tenant", "principal", "original_name", "key", "client_call_id")}
        if data.draw(st.booleans()) and earlier["arguments"]:
            same["arguments"] = earlier["arguments"]
        self._admit(asked | same, data.draw(st.sampled_from(("admit", "start"))), data, Dedupe())

    @rule(asked=calls(), data=st.data(), earlier=in_state())
    @when_there_is_one()
    def resume(self, asked: Fields, data: st.DataObject, earlier: str) -> None:
        self._admit(asked | {"resumes": earlier, "key": None}, "admit", data, None)

    @rule(asked=calls(), outcome=ended, delivered=st.booleans())
    def record(self, asked: Fields, outcome: Outcome, delivered: bool) -> None:
        self._commit(Record(self._new(asked | {"key": None}), outcome, 0.25, delivered))

    def _admit(self, asked: Fields, event: str, data: st.DataObject, dedupe: Dedupe | None) -> None:
        carried = data.draw(st.sampled_from((None, None, Round(0, answers={"name": "Zoë"}))))
        write = Admit(self._new(asked), Event(event), dedupe=dedupe, round=carried, note=data.draw(notes))
        write = replace(write, waited_s=data.draw(st.sampled_from((0.0, 0.0, 0.25, 2.0))))
        write = replace(write, may_wait=data.draw(st.sampled_from((True, True, True, False))))
        if event == "start":
            write = replace(write, lease=data.draw(leases))
        if event == "park":
            write = replace(write, approval=self._question(data))
        if event == "deny":
            write = replace(write, outcome=DENIED)
        self._commit(write)

    def _new(self, asked: Fields) -> NewCall:
        return new_call(id=f"call-{next(self._numbers)}", requesters=(asked["principal"],), **asked)

    def _question(self, data: st.DataObject) -> Any:
        spans = {"expires_in_s": data.draw(st.sampled_from((60.0, HOUR))), "execute_within_s": 900.0}
        return new_approval(id=f"approval-{next(self._numbers)}", requirements=data.draw(requirements), **spans)

    # --- attempts ---------------------------------------------------------------------------------------------

    @rule(call_id=in_state("queued"), lease=leases)
    @when_there_is_one("queued")
    def claim(self, call_id: str, lease: Lease) -> None:
        self._commit(Claim(call_id, lease))

    @rule(call_id=in_state(), lease=leases)
    @when_there_is_one()
    def claim_whatever(self, call_id: str, lease: Lease) -> None:
        self._commit(Claim(call_id, lease))

    @rule(call_id=in_state(*BEGUN), off=off_by)
    @when_there_is_one(*BEGUN)
    def settle(self, call_id: str, off: int | None) -> None:
        self._move(call_id, "settle", off, outcome=PAID)

    @rule(call_id=in_state(*BEGUN), off=off_by, lost=st.booleans(), sent=st.booleans())
    @when_there_is_one(*BEGUN)
    def fail(self, call_id: str, off: int | None, lost: bool, sent: bool) -> None:
        self._move(call_id, "fail", off, outcome=BROKEN, lost=lost, sent=sent)

    @rule(call_id=in_state(*BEGUN), off=off_by)
    @when_there_is_one(*BEGUN)
    def lose(self, call_id: str, off: int | None) -> None:
        self._move(call_id, "lose", off, lost=True)

    @rule(
        call_id=in_state(*BEGUN), off=off_by, pause=st.sampled_from((0.0, 5.0)), lost=st.booleans(), sent=st.booleans()
    )
    @when_there_is_one(*BEGUN)
    def retry(self, call_id: str, off: int | None, pause: float, lost: bool, sent: bool) -> None:
        """And somebody who is in too much of a hurry."""
        self._move(call_id, "retry", off, delay_s=pause, lost=lost, sent=sent)
        self._commit(Claim(call_id, Lease("engine-3", 30.0)))

    @rule(call_id=in_state("in_doubt", "queued"), off=off_by, done=st.booleans())
    @when_there_is_one("in_doubt", "queued")
    def evidence(self, call_id: str, off: int | None, done: bool) -> None:
        event = "evidence_done" if done else "evidence_failed"
        self._move(call_id, event, off, outcome=PAID if done else BROKEN)

    @rule(call_id=in_state("running"), asked=rounds, patience=st.sampled_from((0.0, HOUR)), off=off_by)
    @when_there_is_one("running")
    def ask(self, call_id: str, asked: Fields, patience: float, off: int | None) -> None:
        before = self.model.calls[call_id]["round"]
        number = 1 if before is None else before["number"] + 1
        self._move(call_id, "ask", off, round=Round(number, **asked), delay_s=patience)

    @rule(
        call_id=in_state("waiting_for_input"),
        keys=st.sets(st.sampled_from(("name", "city", "other"))),
        final=st.booleans(),
        late=st.sampled_from((0, 0, 0, -1, 1)),
        client=st.sampled_from((None, {"name": "desktop"})),
    )
    @when_there_is_one("waiting_for_input")
    def answer(self, call_id: str, keys: set[str], final: bool, late: int, client: Fields | None) -> None:
        number = self.model.calls[call_id]["round"]["number"] + late
        self._commit(Answer(call_id, number, "ann", dict.fromkeys(sorted(keys), f"yes, {final}"), final, client))

    @rule(call_id=in_state("running"), task=st.sampled_from(("t1", "t2")), off=st.sampled_from((0, 0, -1)))
    @when_there_is_one("running")
    def follow(self, call_id: str, task: str, off: int) -> None:
        self._commit(Follow(call_id, self.model.calls[call_id]["fence"] + off, "payments", RemoteTask(task)))

    # --- people -----------------------------------------------------------------------------------------------

    @rule(data=st.data(), given=st.lists(verdicts, min_size=1, max_size=4))
    @precondition(lambda machine: bool(machine.model.approvals))
    def decide(self, data: st.DataObject, given: list[Fields]) -> None:
        """Some people's verdicts on one approval, one after the other."""
        pending = [id_ for id_, asked in self.model.approvals.items() if asked["status"] == "pending"]
        anyone = data.draw(st.sampled_from((False, False, False, True)))
        approval_id = data.draw(st.sampled_from(pending if pending and not anyone else [*self.model.approvals]))
        for verdict in given:
            self._commit(Decide(approval_id, **verdict))

    @rule(call_id=in_state(), off=off_by)
    @when_there_is_one()
    def cancel(self, call_id: str, off: int | None) -> None:
        self._move(call_id, "cancel", off, outcome=WITHDRAWN)

    @rule(call_id=in_state("in_doubt"), event=st.sampled_from(("resolve_done", "resolve_failed", "resolve_retry")))
    @when_there_is_one("in_doubt")
    def resolve(self, call_id: str, event: str) -> None:
        outcome = {"resolve_done": PAID, "resolve_failed": BROKEN}.get(event)
        self._move(call_id, event, None, outcome=outcome)

    @rule(call_id=in_state("queued"), off=off_by, data=st.data())
    @when_there_is_one("queued")
    def park_again(self, call_id: str, off: int | None, data: st.DataObject) -> None:
        self._move(call_id, "park", off, approval=self._question(data))

    @rule(call_id=in_state(), event=st.sampled_from(sorted(Event)), off=off_by, data=st.data())
    @when_there_is_one()
    def whatever_event(self, call_id: str, event: str, off: int | None, data: st.DataObject) -> None:
        """Any event for any call: what the table does not know changes nothing."""
        target = LIFE[self.model.calls[call_id]["state"]].get(event)
        given: Fields = {"outcome": WITHDRAWN if target in TERMINAL else None}
        if target == "waiting_for_approval":
            given["approval"] = self._question(data)
        if target == "waiting_for_input":
            given["round"] = Round(7, {"name": QUESTION})
        self._move(call_id, event, off, **given)

    # --- time and engines -------------------------------------------------------------------------------------

    @rule(span_s=st.sampled_from(SPANS))
    def pass_time(self, span_s: float) -> None:
        self.clock.advance(span_s)

    @rule(limit=st.sampled_from((1, 500)))
    def expire(self, limit: int) -> None:
        """Which of many end first is open but for this: nobody before whoever has waited longer."""
        overdue = self.model.overdue(self.clock.now)
        (result,) = self._run(self.store.commit([Expire(limit)]))
        assert isinstance(result, Swept)
        ended_ids = [call.id for call in result.calls]
        assert len(ended_ids) == min(limit, len(overdue))
        waited = [overdue[id_] for id_ in ended_ids]
        assert waited == sorted(overdue.values())[: len(waited)]
        assert shape_of(result) == self.model.expire(ended_ids, self.clock.now)
        self._check_journals(ended_ids)

    @rule(engine=st.sampled_from(ENGINES), takeover=st.booleans(), max_losses=st.sampled_from((1, 3)))
    def recover(self, engine: str, takeover: bool, max_losses: int) -> None:
        self._commit(Recover(engine, takeover, max_losses))

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        self._commit(Renew(lease))

    @rule(call_id=in_state(), delivered=st.booleans(), handled=st.booleans(), cancel=st.booleans())
    @when_there_is_one()
    def mark(self, call_id: str, delivered: bool, handled: bool, cancel: bool) -> None:
        self._commit(Mark(call_id, delivered, handled, cancel))

    @rule(call_id=in_state(), closing=st.booleans())
    @when_there_is_one()
    def deliver_soon(self, call_id: str, closing: bool) -> None:
        """What is promised soon is there after the next commit, and after a close."""
        mark = Mark(call_id, delivered=True, handled=True)

        async def soon() -> None:
            self.store.commit_soon([mark])
            await (self.store.close() if closing else self.store.commit([Note(call_id, "seen", "ann")]))

        self._run(soon())
        self.model.apply(mark, self.clock.now)
        if closing:
            self.store = self._run(self._open(Path(self._folder.name), self.clock))
        else:
            self.model.apply(Note(call_id, "seen", "ann"), self.clock.now)

    @rule()
    def reopen(self) -> None:
        self._run(self.store.close())
        self.store = self._run(self._open(Path(self._folder.name), self.clock))
        self._check_journals(self.model.ids())
        assert self._run(self.store.health(deep=True)).problems == ()

    @rule(limit=st.sampled_from((1, 500)))
    def purge(self, limit: int) -> None:
        """Nothing is forgotten that may not be; with room for all, everything is that may."""
        before, now = self._listed(), self.clock.now
        emptiable, forgettable = self.model.emptiable(now), self.model.forgettable(now)
        (result,) = self._run(self.store.commit([Purge(self.model.retention, limit)]))
        after = self._listed()
        emptied = {id_ for id_ in after if id_ in emptiable and after[id_]["arguments"] != before[id_]["arguments"]}
        gone = before.keys() - after.keys()
        assert gone <= forgettable & (emptiable | self.model.emptied)
        if limit > len(before):
            assert emptied == emptiable - gone
            assert gone == forgettable
            assert result == Count(len(emptiable) + len(gone))
        for id_ in emptied:
            self.model.empty(id_)
        for id_ in gone:
            self.model.forget(id_)
            self._terminal.pop(id_, None)
            assert self._run(self.store.journal(id_)) == ()

    # --- batches ----------------------------------------------------------------------------------------------

    @rule(asked=st.lists(calls(), min_size=2, max_size=3), data=st.data())
    def batch_with_a_bad_commit(self, asked: list[Fields], data: st.DataObject) -> None:
        """Commits that share a transaction; one of them raises, at its last write."""
        good = [Admit(self._new(each), Event.ADMIT, dedupe=Dedupe()) for each in asked]
        bad = Admit(self._new(asked[0] | {"arguments": {"amount": float("nan")}, "key": None}), Event.ADMIT)
        commits: list[list[Write]] = [[write] for write in good[1:]]
        commits.insert(data.draw(st.integers(0, len(commits))), [replace(good[0]), bad])

        async def together() -> list[Any]:
            return await asyncio.gather(*(self.store.commit(each) for each in commits), return_exceptions=True)

        for writes, result in zip(commits, self._run(together()), strict=True):
            if bad in writes:
                assert isinstance(result, ValueError), result
            else:
                assert not isinstance(result, Exception), result
                self._compare(writes, result)

    @rule(call_id=in_state(), lease=leases, data=st.data())
    @when_there_is_one()
    def several_writes_in_one_commit(self, call_id: str, lease: Lease, data: st.DataObject) -> None:
        """In order, each seeing what those before it did; all or none."""
        fence = self.model.calls[call_id]["fence"] + 1
        possible: list[Write] = [
            Claim(call_id, lease),
            Claim(call_id, lease),
            Move(call_id, Event.SETTLE, "payments", fence, outcome=PAID),
            Move(call_id, Event.RETRY, "payments", fence),
            Move(call_id, Event.CANCEL, "ann", outcome=WITHDRAWN),
            Mark(call_id, delivered=True),
            Note("nowhere", "joined", "ann"),
        ]
        self._commit(*data.draw(st.lists(st.sampled_from(possible), min_size=2, max_size=5)))

    # --- what always holds --------------------------------------------------------------------------------------

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        listed = self._listed()
        assert list(listed) == self.model.ids()
        assert listed == self.model.calls
        page = self._run(self.store.list_approvals(None, EVERYTHING))
        approvals = {each.id: fields_of(each) for each in page.items}
        assert approvals == {id_: self.model.approval(id_) for id_ in self.model.approvals}
        self._terminal_states_stay(listed)
        self._decisions_stay(approvals)

    @invariant()
    def it_knows_what_may_run_and_when(self) -> None:
        runnable = self._run(self.store.runnable(EVERYTHING))
        assert [call.id for call in runnable] == self.model.runnable(self.clock.now)
        assert self._run(self.store.next_due_s()) == self.model.next_due_s(self.clock.now)

    @invariant()
    def it_counts_what_there_is(self) -> None:
        health = self._run(self.store.health())
        assert health.journal_entries == sum(map(len, self.model.journal.values()))
        assert sum(health.calls_by_state.values()) == len(self.model.calls)
        assert all(len(self.model.ids(state)) == found for state, found in health.calls_by_state.items())
        pending = [each for each in self.model.approvals.values() if each["status"] == "pending"]
        assert health.pending_approvals == len(pending)

    @invariant()
    def each_key_has_one_holder(self) -> None:
        names = ("tenant", "principal", "downstream", "original_name", "key")
        for call in self.model.calls.values():
            if call["key"] is None:
                continue
            holder = self.model.holder(new_call(**{name: call[name] for name in names}), self.clock.now)
            found = self._run(self.store.find_key(*(call[name] for name in names)))
            assert (None if found is None else _holder_of(found)) == (None if holder is None else holder["id"])

    def _terminal_states_stay(self, listed: dict[str, Fields]) -> None:
        for id_, call in listed.items():
            if id_ in self._terminal or call["state"] in TERMINAL:
                end = (call["state"], call["ended_at"], call["outcome"]["kind"], call["fence"])
                assert self._terminal.setdefault(id_, end) == end

    def _decisions_stay(self, approvals: dict[str, Fields]) -> None:
        for id_, approval in approvals.items():
            if id_ in self._decided or approval["status"] != "pending":
                decision = (approval["status"], approval["decided_at"], approval["verdicts"])
                assert self._decided.setdefault(id_, decision) == decision

    # --- doing and comparing ------------------------------------------------------------------------------------

    def _run(self, asked: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asked)

    def _move(self, call_id: str, event: str, off: int | None, **given: Any) -> None:
        fence = None if off is None else self.model.calls[call_id]["fence"] + off
        self._commit(Move(call_id, Event(event), "tester", fence, **given))

    def _commit(self, *writes: Write) -> None:
        """Commit `writes` together, in the store and in the model, and compare the two."""
        try:
            result: Sequence[WriteResult] | ValueError = self._run(self.store.commit(writes))
        except ValueError as error:
            result = error
        self._compare(writes, result)

    def _compare(self, writes: Sequence[Write], result: Sequence[WriteResult] | ValueError) -> None:
        before = copy.deepcopy(self.model) if len(writes) > 1 else self.model
        try:
            foretold: list[Shape] = [self.model.apply(write, self.clock.now) for write in writes]
        except Impossible:
            self.model = before
            assert isinstance(result, ValueError), f"{writes} was answered with {result}"
            return
        assert not isinstance(result, ValueError), f"{writes} raised {result}"
        assert [shape_of(each) for each in result] == foretold
        self._check_journals(_touched(foretold))

    def _check_journals(self, call_ids: Sequence[str]) -> None:
        """Every accepted write is there once, and they alone tell where each call stands."""
        for id_ in call_ids:
            entries = list(self._run(self.store.journal(id_)))
            told = [(entry.at, entry.event, entry.state, entry.attempt, entry.actor) for entry in entries]
            assert told == self.model.journal[id_]
            assert [entry.seq for entry in entries] == sorted({entry.seq for entry in entries})
            call = self.model.calls[id_]
            assert replayed(entries) == (call["state"], call["fence"])

    def _listed(self) -> dict[str, Fields]:
        """Every call in the store, oldest first."""
        page = self._run(self.store.list_calls(CallFilter(), EVERYTHING))
        return {call.id: fields_of(call) for call in reversed(page.items)}


notes = st.sampled_from((None, None, "waits for a slot"))


def _touched(shapes: Sequence[Shape]) -> list[str]:
    """The calls that results speak of."""
    carried = [part for shape in shapes for part in shape[1:]]
    found = [each for part in carried for each in (part if isinstance(part, list) else [part])]
    ids: list[str] = [str(each.get("call_id") or each["id"]) for each in found if isinstance(each, dict)]
    return list(dict.fromkeys(ids))


def _holder_of(found: Call | Purged) -> str:
    return found.call_id if isinstance(found, Purged) else found.id
