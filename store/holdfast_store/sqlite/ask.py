"""The question to people: a pending approval, written with the move that parks its call."""

from holdfast_store.model.values import NewApproval
from holdfast_store.sqlite.rows import requirement_to_json, to_json
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction

_INSERT = load("approvals")["insert"]


def check_decidable(approval: NewApproval) -> None:
    """Raise `ValueError` for an approval that nobody could ever decide."""
    if not approval.requirements:
        raise ValueError("an approval without requirements could never be decided")


def ask(tx: Transaction, seq: int, approval: NewApproval) -> None:
    """Insert the pending approval of the call with that `seq`. An earlier one ended when the call stopped waiting."""
    requirements = to_json([requirement_to_json(requirement) for requirement in approval.requirements])
    tx.connection.execute(
        _INSERT,
        (
            approval.id,
            seq,
            requirements,
            approval.arguments_hash,
            approval.definition,
            approval.reason,
            approval.expires_in_s,
            approval.execute_within_s,
            tx.now,
            tx.now + approval.expires_in_s,
        ),
    )
