"""An independent store in dictionaries, that says beforehand what the real one will answer and hold.

`apply` takes a write and answers its result as `shape_of` shows a real one: the name of its type and what it carries.
Sentences are not foretold: they are `ANY`. What the contract leaves open (which of many a limited sweep or purge
takes) is told by the real answer, and only judged here.
"""

from dataclasses import asdict
from unittest.mock import ANY

from reference_admission import Impossible, ReferenceAdmission
from reference_results import Shape
from reference_rules import BEGUN, LIFE, TERMINAL, Fields, counts, needs_fence, tally

from holdfast_store.contract import (
    Admit,
    Answer,
    Claim,
    Decide,
    Follow,
    Mark,
    Move,
    Note,
    Record,
    Recover,
    Renew,
    Write,
)


class ReferenceStore(ReferenceAdmission):
    """The whole of it: `apply` for one write, and the parts of what the contract leaves open."""

    # --- writes ---------------------------------------------------------------------------------------------------

    def apply(self, write: Write, now: float) -> Shape:
        """The shape of the answer. Raises `Impossible`, and then nothing has changed."""
        match write:
            case Admit():
                return self._admit(write, now)
            case Record():
                return self._record(write, now)
            case Claim():
                return self._claim(write, now)
            case Move():
                return self._move(write, now)
            case Answer():
                return self._answer(write, now)
            case Follow():
                return self._follow(write, now)
            case Decide():
                return self._decide(write, now)
            case Mark():
                return self._mark(write)
            case Note():
                return self._note(write, now)
            case Renew():
                return self._renew(write, now)
            case Recover():
                return self._recover(write, now)
        raise TypeError(f"no rule for {write!r}")

    def expire(self, ended: list[str], now: float) -> Shape:
        """End those that a sweep chose; the caller has judged the choice."""
        outcome = {"kind": "expired", "payload": ANY}
        for id_ in ended:
            self._step(self.calls[id_], "expire", "holdfast", now, outcome=outcome)
        return "Swept", [self._seen(id_) for id_ in ended]

    def emptiable(self, now: float) -> set[str]:
        """Whose payload `Purge` may empty."""
        keep = self.retention
        payload_s = min(keep.payload_s, keep.journal_s)
        return self._ended_before(now, payload_s, max(payload_s, keep.replay_s)) - self.emptied

    def forgettable(self, now: float) -> set[str]:
        """Which calls `Purge` may forget, given that their payloads are gone by then."""
        keep = self.retention
        held_s = keep.replay_s + keep.tombstone_s
        return self._ended_before(now, keep.journal_s, max(keep.journal_s, held_s)) - {self._last_written}

    def empty(self, id_: str) -> None:
        """Take a call's payload."""
        call = self.calls[id_]
        outcome = {**call["outcome"], "payload": {}}
        call |= {
            "arguments": {},
            "client": None,
            "round": None if call["round"] is None else only_numbered(call["round"]["number"]),
            "outcome": outcome,
        }
        self.emptied.add(id_)

    def forget(self, id_: str) -> None:
        """Take a call with all that belongs to it."""
        del self.calls[id_], self.journal[id_]
        self.approvals = {key: value for key, value in self.approvals.items() if value["call_id"] != id_}

    # --- moves ----------------------------------------------------------------------------------------------------

    def _claim(self, write: Claim, now: float) -> Shape:
        call = self.calls.get(write.call_id)
        if call is None or call["state"] != "queued" or not self._startable(call, now):
            return self._stale(write.call_id)
        lease = {"lease_owner": write.lease.owner, "lease_until": now + write.lease.lease_s}
        kept = {"execute_by": call["execute_by"]}
        self._step(call, "claim", write.lease.owner, now, fence=call["fence"] + 1, **lease, **kept)
        return "Moved", self._seen(write.call_id)

    def _move(self, write: Move, now: float) -> Shape:
        if write.event in ("claim", "answer", "continue"):
            raise Impossible
        call = self.calls.get(write.call_id)
        target = None if call is None else LIFE[call["state"]].get(write.event)
        if call is None or target is None:
            return self._stale(write.call_id)
        given = (write.outcome is not None, write.approval is not None, write.round is not None)
        if given != (target in TERMINAL, target == "waiting_for_approval", target == "waiting_for_input"):
            raise Impossible
        fenced = needs_fence(write.event, call["state"]) or write.fence is not None
        if fenced and write.fence != call["fence"]:
            return self._stale(write.call_id)
        changes = self._counted(write, call) | {"note": write.note} | self._target(write, call, target, now)
        self._step(call, write.event, write.actor, now, **changes)
        if write.approval is not None:
            self._ask_people(call, asdict(write.approval), now)
        return "Moved", self._seen(write.call_id)

    def _counted(self, write: Move, call: Fields) -> Fields:
        if write.event != "lose" and (call["state"] not in BEGUN or write.event not in ("retry", "fail")):
            return {}
        if write.lost or write.event == "lose":
            return {"losses": call["losses"] + 1}
        return {"failures": call["failures"] + 1} if write.sent else {}

    def _target(self, write: Move, call: Fields, target: str, now: float) -> Fields:
        if write.outcome is not None:
            return {"outcome": asdict(write.outcome)}
        if write.approval is not None:
            return {"approval_id": write.approval.id}
        if write.round is not None:
            self._asked.add(call["id"])
            self._patience[call["id"]] = now + write.delay_s if write.delay_s > 0 else None
            lease = {name: call[name] for name in ("lease_owner", "lease_until")} if write.round.attached else {}
            return {"round": asdict(write.round), **lease}
        if target != "queued":
            return {}
        pauses = write.event == "retry" and write.delay_s > 0
        changes = {"not_before": now + write.delay_s if pauses else None, **_again(call, over=write.sent)}
        if write.event == "approve":
            changes["execute_by"] = now + self.approvals[call["approval_id"]]["execute_within_s"]
        elif write.event == "retry" and not write.sent:
            changes["execute_by"] = call["execute_by"]
        return changes

    def _answer(self, write: Answer, now: float) -> Shape:
        call = self.calls.get(write.call_id)
        if call is None or call["state"] != "waiting_for_input" or call["round"]["number"] != write.number:
            return self._stale(write.call_id)
        due_at, asked = self.due_at(call), call["round"]
        if due_at is not None and due_at <= now:
            return self._stale(write.call_id)
        open_keys = [key for key in asked["requests"] if key not in asked["answers"]]
        given = {
            key: value
            for key, value in write.answers.items()
            if key in open_keys or (write.final and key not in asked["requests"])
        }
        answered = {**asked, "answers": {**asked["answers"], **given}}
        client = call["client"] if write.client is None else write.client
        if write.final or all(key in answered["answers"] for key in asked["requests"]):
            lease = {name: call[name] for name in ("lease_owner", "lease_until")} if asked["attached"] else {}
            event = "continue" if asked["attached"] else "answer"
            self._step(call, event, write.actor, now, round=answered, client=client, **lease)
        elif given:
            call |= {"round": answered, "client": client}
            self._journal(call, "answered", write.actor, now)
        return "Moved", self._seen(write.call_id)

    def _follow(self, write: Follow, now: float) -> Shape:
        call = self.calls.get(write.call_id)
        if call is None or call["state"] != "running" or call["fence"] != write.fence:
            return self._stale(write.call_id)
        before, task = call["remote_task"], asdict(write.task)
        call["remote_task"] = task
        if before is None or before["id"] != task["id"]:
            self._journal(call, "follow", write.actor, now)
        return "Moved", self._seen(write.call_id)

    # --- people ---------------------------------------------------------------------------------------------------

    def _decide(self, write: Decide, now: float) -> Shape:
        if write.approval_id not in self.approvals:
            return "Undecidable", None, True
        approval = self.approvals[write.approval_id]
        call = self.calls[approval["call_id"]]
        verdict = {
            "principal": write.principal,
            "roles": write.roles,
            "kind": write.kind,
            "comment": write.comment,
            "at": now,
        }
        voted = any(earlier["principal"] == write.principal for earlier in approval["verdicts"])
        late = approval["expires_at"] <= now or (call["deadline_at"] is not None and call["deadline_at"] <= now)
        fits = any(counts(need, verdict, approval["requesters"]) for need in approval["requirements"])
        if approval["status"] != "pending" or late or voted or not fits:
            return "Undecidable", self.approval(write.approval_id), True
        approval["verdicts"] = (*approval["verdicts"], verdict)
        match tally(approval):
            case "pending":
                self._journal(call, "verdict", write.principal, now)
            case "approved":
                self._step(call, "approve", write.principal, now, execute_by=now + approval["execute_within_s"])
            case "rejected":
                outcome = {"kind": "rejected", "payload": {"message": write.comment} if write.comment else ANY}
                self._step(call, "reject", write.principal, now, outcome=outcome)
        return "Decided", self.approval(write.approval_id), self._seen(call["id"])

    # --- upkeep ---------------------------------------------------------------------------------------------------

    def _mark(self, write: Mark) -> Shape:
        call = self.calls.get(write.call_id)
        if call is None:
            return "Stale", None
        call["delivered"] |= write.delivered and call["ended_at"] is not None
        call["handled"] |= write.handled
        call["cancel_requested"] |= write.cancel_requested
        return "Moved", self._seen(write.call_id)

    def _note(self, write: Note, now: float) -> Shape:
        if write.call_id not in self.calls:
            return "Stale", None
        self._journal(self.calls[write.call_id], write.event, write.actor, now)
        return "Count", 1

    def _renew(self, write: Renew, now: float) -> Shape:
        held = [self.calls[id_] for id_ in self.ids(*BEGUN) if self.calls[id_]["lease_owner"] == write.lease.owner]
        for call in held:
            call["lease_until"] = now + write.lease.lease_s
        return "Count", len(held)

    def _recover(self, write: Recover, now: float) -> Shape:
        swept = []
        for id_ in self.ids(*BEGUN):
            call = self.calls[id_]
            if call["lease_owner"] is None:
                continue
            if call["lease_owner"] == write.owner if write.takeover else call["lease_until"] > now:
                continue
            self._take_over(call, write.max_losses, now)
            swept.append(id_)
        return "Swept", [self._seen(id_) for id_ in swept]

    def _take_over(self, call: Fields, max_losses: int, now: float) -> None:
        losses = call["losses"] + 1
        if call["remote_task"] is not None:
            self._step(call, "retry", "holdfast", now, **_again(call, over=False))
        elif not call["retry_safe"]:
            self._step(call, "lose", "holdfast", now, losses=losses, note=ANY)
        elif losses < max_losses:
            self._step(call, "retry", "holdfast", now, losses=losses, **_again(call, over=True))
        else:
            outcome = {"kind": "error", "payload": ANY}
            self._step(call, "fail", "holdfast", now, losses=losses, outcome=outcome)


def only_numbered(number: int) -> Fields:
    """A round of which nothing else is known."""
    return {"number": number, "requests": {}, "state": None, "answers": {}, "attached": False}


def _again(call: Fields, *, over: bool) -> Fields:
    """What a call loses that is queued again: an attached round but for its number, and an ended attempt's task."""
    changes: Fields = {}
    if call["round"] is not None and call["round"]["attached"]:
        changes["round"] = only_numbered(call["round"]["number"])
    if over:
        changes["remote_task"] = None
    return changes
