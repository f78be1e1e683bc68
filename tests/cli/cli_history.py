"""A store with a little history, made by the store itself."""

from dataclasses import dataclass
from pathlib import Path

from holdfast_store.contract import Accepted, Admit, Claim, Decide, Lease, Move, SaveCatalog
from holdfast_store.model.lifecycle import Event
from holdfast_store.model.values import (
    CatalogRecord,
    Json,
    NewApproval,
    NewCall,
    Outcome,
    OutcomeKind,
    Requirement,
    VerdictKind,
)
from holdfast_store.open import open_store

TOOLS: tuple[Json, ...] = (
    {
        "name": "balance",
        "inputSchema": {"type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"]},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "refund",
        "inputSchema": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
    },
    {"name": "broken", "inputSchema": {"type": "nonsense"}},
    {"name": "n" * 60, "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": False}},
)

CONFIG = """
mcpServers:
  payments: {command: payments-server}
  git: {command: mcp-server-git}
store: sqlite://./state.db
rules:
  - {id: large, match: {tool: payments__refund}, when: args.amount > 100, effect: deny, reason: too large}
  - {id: known, match: {tool: payments__refund}, when: args.amount < 5, effect: allow}
  - {id: odd, match: {tool: payments__balance}, when: args.acount == "x", effect: deny}
principals: [{id: anna, roles: [approver]}]
"""


@dataclass(frozen=True)
class History:
    """Where it is, and what is in it: a call that was approved and is done, one that waits, one in doubt."""

    config: Path
    done: str
    parked: str
    approval: str
    in_doubt: str


def new_call(number: int, amount: float) -> NewCall:
    return NewCall(
        id=f"{number:032x}",
        tenant="default",
        principal="agent",
        tool="payments__refund",
        downstream="payments",
        original_name="refund",
        identity="identity",
        definition="definition",
        arguments={"amount": amount, "note": "caf\u00e9 \x1b[2J"},
        fingerprint=f"fingerprint-{number}",
        run=f"run-{number}",
        retry_safe=False,
        requesters=("agent",),
        key=f"key-{number}",
    )


def new_approval(number: int) -> NewApproval:
    return NewApproval(
        id=f"{number:032x}",
        requirements=(Requirement("large", "digest", reason="too large"),),
        arguments_hash="hash",
        definition="definition",
        reason="Refunds over 100 need finance",
        expires_in_s=3600.0,
        execute_within_s=60.0,
    )


async def fill(url: str, identity: str) -> None:
    store = await open_store(url)
    lease = Lease("engine-1", 60.0)
    try:
        parked = Admit(new_call(1, 500), Event.PARK, approval=new_approval(101), note="Refunds over 100 need finance")
        (accepted,) = await store.commit((parked,))
        assert isinstance(accepted, Accepted)
        await store.commit(
            (Decide(new_approval(101).id, "anna", frozenset({"approver"}), VerdictKind.APPROVE, "fine"),)
        )
        result = Outcome(OutcomeKind.RESULT, {"content": [{"type": "text", "text": "refunded 500"}]})
        await store.commit((Claim(new_call(1, 500).id, lease),))
        await store.commit((Move(new_call(1, 500).id, Event.SETTLE, "engine-1", fence=1, outcome=result),))
        await store.commit((Admit(new_call(2, 700), Event.PARK, approval=new_approval(102)),))
        await store.commit((Admit(new_call(3, 50), Event.START, lease=lease),))
        await store.commit((Move(new_call(3, 50).id, Event.LOSE, "engine-1", fence=1, lost=True),))
        record = CatalogRecord("payments", identity, "2026-07-28", TOOLS, seen_at=0.0)
        await store.commit((SaveCatalog(record),))
    finally:
        await store.close()
