"""Taking calls in, or finding those that answer for them: the first half of the reference store."""

from dataclasses import asdict
from unittest.mock import ANY

from reference_results import Shape
from reference_rules import IN_LINE, LIFE, TERMINAL, Fields
from reference_state import ReferenceState, same

from holdfast_store.contract import Admit, Record
from holdfast_store.model.values import Call, NewCall


class Impossible(Exception):
    """A write that no state of the call could make right: the store raises `ValueError`, and applies nothing."""


class ReferenceAdmission(ReferenceState):
    """`Admit` and `Record`."""

    # --- admission ------------------------------------------------------------------------------------------------

    def _admit(self, write: Admit, now: float) -> Shape:
        target = LIFE[None].get(write.event)
        given = (write.lease is not None, write.outcome is not None, write.approval is not None)
        needed = (target == "running", target == "failed", target == "waiting_for_approval")
        if target is None or given != needed:
            raise Impossible
        new, lease, approval = write.call, write.lease, write.approval
        answered = self._by_key(new, now) or self._by_resumption(new) or self._by_repetition(write, now)
        if answered is not None:
            return answered
        before = self.line(new.line) if target in IN_LINE else []
        if before and not write.may_wait:
            return "Stale", None
        event, behind = write.event, before[-1]["id"] if before else None
        if before:
            event, target, lease = "admit", "queued", None
        call = _fields(new) | {
            "state": target,
            "created_at": now - write.waited_s,
            "updated_at": now,
            "outcome": None if write.outcome is None else asdict(write.outcome),
            "fence": int(lease is not None),
            "deadline_at": None if new.deadline_s is None else now + new.deadline_s,
            "lease_owner": None if lease is None else lease.owner,
            "lease_until": None if lease is None else now + lease.lease_s,
            "ended_at": now if target in TERMINAL else None,
            "approval_id": None if approval is None else approval.id,
            "note": write.note,
            "round": None if write.round is None else asdict(write.round),
        }
        call["ticket"] = self._ticket(call, target)
        self.calls[new.id] = call
        self.journal[new.id] = []
        if approval is not None:
            self._ask_people(call, asdict(approval), now)
        self._journal(call, event, new.principal, now)
        return "Accepted", self._seen(new.id), behind

    def _by_key(self, new: NewCall, now: float) -> Shape | None:
        holder = None if new.key is None else self.holder(new, now)
        if holder is None:
            return None
        if holder["fingerprint"] != new.fingerprint:
            return "Conflict", holder["id"]
        if holder["ended_at"] is None:
            return "Joined", self._seen(holder["id"])
        if now < holder["ended_at"] + self.retention.replay_s:
            return "Replayed", self._seen(holder["id"])
        return "Purged", holder["id"], holder["ended_at"]

    def _by_resumption(self, new: NewCall) -> Shape | None:
        for id_ in reversed(self.ids()):
            call = self.calls[id_]
            taken_up = call["resumes"] is not None and call["resumes"] == new.resumes
            if taken_up and (call["state"] == "done" or call["state"] not in TERMINAL):
                return "Joined", self._seen(id_)
        return None

    def _by_repetition(self, write: Admit, now: float) -> Shape | None:
        new, dedupe, asked_at = write.call, write.dedupe, now - write.waited_s
        if dedupe is None or new.key is not None or new.resumes is not None:
            return None
        for id_ in reversed(self.ids()):
            call = self.calls[id_]
            mine = same(call, new, "fingerprint", "original_name", "principal", "downstream", "tenant")
            if not mine or call["key"] is not None or call["delivered"]:
                continue
            named = (call["client_call_id"], new.client_call_id)
            if None not in named and named[0] != named[1]:
                continue
            if call["ended_at"] is None:
                old = call["created_at"] <= asked_at - dedupe.min_age_s
                waits = call["state"] == "waiting_for_input" and not call["round"]["attached"]
                joins = not (waits and call["remote_task"] is None) and (old or (None not in named))
            else:
                left = call["remote_task"] is None and call["round"] is not None
                asked = call["outcome"]["kind"] == "expired" and left
                protects = call["outcome"]["kind"] != "cancelled" and not asked
                joins = protects and call["ended_at"] >= asked_at - dedupe.join_window_s
            if joins:
                return "Joined", self._seen(id_)
        return None

    def _record(self, write: Record, now: float) -> Shape:
        new, kind = write.call, write.outcome.kind
        if new.key is not None:
            raise Impossible
        event = {"result": "settle", "cancelled": "cancel"}.get(kind, "fail")
        created_at = now - write.took_s
        call = _fields(new) | {
            "state": "running",
            "created_at": created_at,
            "fence": 1,
            "deadline_at": None if new.deadline_s is None else created_at + new.deadline_s,
        }
        self.calls[new.id], self.journal[new.id] = call, []
        self._journal(call, "start", new.principal, created_at)
        call |= {
            "state": LIFE["running"][event],
            "updated_at": now,
            "ended_at": now,
            "outcome": asdict(write.outcome),
            "failures": int(event == "fail"),
            "delivered": write.delivered,
        }
        self._journal(call, event, new.downstream, now)
        return "Accepted", self._seen(new.id), None

    def _ask_people(self, call: Fields, new: Fields, now: float) -> None:
        self.approvals[new["id"]] = new | {
            "call_id": call["id"],
            "tenant": call["tenant"],
            "tool": call["tool"],
            "requesters": call["requesters"],
            "arguments": ANY,
            "status": "pending",
            "created_at": now,
            "expires_at": now + new["expires_in_s"],
            "verdicts": (),
            "decided_at": None,
        }


def _fields(new: NewCall) -> Fields:
    """A call of which only what its admission names is known."""
    unset: Fields = dict.fromkeys(Call.__dataclass_fields__)
    flags = {"delivered": False, "handled": False, "cancel_requested": False}
    return unset | flags | {"failures": 0, "losses": 0} | asdict(new)
