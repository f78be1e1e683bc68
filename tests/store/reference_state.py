"""What the reference store holds, what follows from it, and how one event changes it."""

from typing import Any

from reference_results import Shape
from reference_rules import IN_LINE, LIFE, NEVER_SENT, TERMINAL, Fields, earliest

from holdfast_store.contract import Retention
from holdfast_store.model.values import NewCall


class ReferenceState:
    """Calls, approvals and journal by id, in the order of admission."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.calls: dict[str, Fields] = {}
        self.approvals: dict[str, Fields] = {}
        self.journal: dict[str, list[Shape]] = {}
        self.emptied: set[str] = set()
        self._patience: dict[str, float | None] = {}
        self._asked: set[str] = set()
        self._last_written = ""

    def ids(self, *states: str) -> list[str]:
        """The calls in one of `states`, or all of them; oldest first."""
        return [id_ for id_, call in self.calls.items() if not states or call["state"] in states]

    def approval(self, approval_id: str) -> Fields:
        """An approval as it reads; it shows the arguments of its call."""
        stored = self.approvals[approval_id]
        return {**stored, "arguments": self.calls[stored["call_id"]]["arguments"]}

    def runnable(self, now: float) -> list[str]:
        """What may be claimed, oldest first."""
        return [id_ for id_ in self.ids("queued") if self._startable(self.calls[id_], now)]

    def next_due_s(self, now: float) -> float | None:
        """Seconds until a pause ends or time alone ends something."""
        pauses = [call["not_before"] for call in self.calls.values() if call["state"] == "queued"]
        ends = [self.due_at(call) for call in self.calls.values()]
        at = earliest(*(pause for pause in pauses if pause is not None and pause > now), *ends)
        return None if at is None else max(0.0, at - now)

    def due_at(self, call: Fields) -> float | None:
        """When time alone ends the call."""
        match call["state"]:
            case "queued" if call["remote_task"] is not None:
                return None
            case "queued":
                return earliest(call["deadline_at"], call["execute_by"])
            case "waiting_for_approval":
                return earliest(call["deadline_at"], self.approvals[call["approval_id"]]["expires_at"])
            case "waiting_for_input" if not call["round"]["attached"]:
                return earliest(call["deadline_at"], self._patience[call["id"]])
        return None

    def overdue(self, now: float) -> dict[str, float]:
        """What `Expire` may end, and since when."""
        due = {id_: self.due_at(call) for id_, call in self.calls.items()}
        return {id_: at for id_, at in due.items() if at is not None and at <= now}

    def holder(self, new: NewCall, now: float) -> Fields | None:
        """The call that holds the key of `new`."""
        for call in reversed(self.calls.values()):
            if call["key"] is not None and same(call, new, "key", "principal", "original_name", "downstream", "tenant"):
                return call if self._holds_key(call, now) else None
        return None

    # --- lines ----------------------------------------------------------------------------------------------------

    def line(self, name: str | None) -> list[Fields]:
        """The calls that stand in a line, in order."""
        members = [call for call in self.calls.values() if name is not None and call["line"] == name]
        return sorted((call for call in members if call["ticket"] is not None), key=lambda call: call["ticket"])

    def _ticket(self, call: Fields, target: str) -> int | None:
        """What the call holds once it comes to `target`."""
        if call["line"] is None or target not in IN_LINE:
            return None
        before = self.line(call["line"])
        return call["ticket"] or (before[-1]["ticket"] + 1 if before else 1)

    def _is_next(self, call: Fields) -> bool:
        return call["line"] is None or self.line(call["line"])[0] is call

    # --- steps ----------------------------------------------------------------------------------------------------

    def _step(self, call: Fields, event: str, actor: str, now: float, **changes: Any) -> None:
        source, target, held = call["state"], LIFE[call["state"]][event], call["ticket"]
        asked = call["approval_id"]
        call |= {
            "state": target,
            "updated_at": now,
            "ended_at": now if target in TERMINAL else None,
            "not_before": None,
            "execute_by": None,
            "lease_owner": None,
            "lease_until": None,
            "note": None,
            "ticket": self._ticket(call, target),
            **changes,
        }
        left = None if call["ticket"] is not None else held
        if source == "waiting_for_approval":
            became = {"approve": "approved", "reject": "rejected", "expire": "expired"}.get(event, "cancelled")
            self.approvals[asked] |= {"status": became, "decided_at": now}
        self._journal(call, event, actor, now)
        behind = self.line(call["line"])
        if left is not None and behind and behind[0]["ticket"] > left:
            self._journal(behind[0], "next_in_line", "holdfast", now)

    def _journal(self, call: Fields, event: str, actor: str, at: float) -> None:
        self.journal[call["id"]].append((at, event, call["state"], call["fence"], actor))
        self._last_written = call["id"]

    def _stale(self, call_id: str) -> Shape:
        return "Stale", self._seen(call_id) if call_id in self.calls else None

    def _seen(self, call_id: str) -> Fields:
        return dict(self.calls[call_id])

    def _startable(self, call: Fields, now: float) -> bool:
        due_at = self.due_at(call)
        return (
            self._is_next(call)
            and (call["not_before"] is None or call["not_before"] <= now)
            and (due_at is None or due_at > now)
        )

    def _holds_key(self, call: Fields, now: float) -> bool:
        if call["ended_at"] is None:
            return True
        keep = self.retention
        begun = call["failures"] + call["losses"] > 0 or call["id"] in self._asked or call["remote_task"] is not None
        dispatched = begun or call["outcome"]["kind"] not in NEVER_SENT
        span_s = keep.replay_s + keep.tombstone_s if dispatched else keep.undispatched_s
        return bool(now < call["ended_at"] + span_s)

    def _ended_before(self, now: float, unkeyed_s: float, keyed_s: float) -> set[str]:
        return {
            id_
            for id_, call in self.calls.items()
            if call["ended_at"] is not None and call["ended_at"] < now - (unkeyed_s if call["key"] is None else keyed_s)
        }


def same(call: Fields, new: NewCall, *names: str) -> bool:
    return all(call[name] == getattr(new, name) for name in names)
