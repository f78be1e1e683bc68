"""Whether verdicts satisfy what rules demand. Pure; the store recounts with it inside the deciding transaction."""

from collections.abc import Sequence

from holdfast_store.model.values import ApprovalStatus, Requirement, Verdict, VerdictKind


def counts(requirement: Requirement, verdict: Verdict, requesters: Sequence[str]) -> bool:
    """Whether `verdict` counts towards `requirement` at all: role held, and not the requester's own."""
    if requirement.prevent_self_review and verdict.principal in requesters:
        return False
    return bool(requirement.roles & verdict.roles)


def satisfied(requirement: Requirement, verdicts: Sequence[Verdict], requesters: Sequence[str]) -> bool:
    """Whether enough distinct principals approved `requirement`."""
    approvers = {
        verdict.principal
        for verdict in verdicts
        if verdict.kind is VerdictKind.APPROVE and counts(requirement, verdict, requesters)
    }
    return len(approvers) >= requirement.min_verdicts


def tally(
    requirements: Sequence[Requirement], verdicts: Sequence[Verdict], requesters: Sequence[str]
) -> ApprovalStatus:
    """What the verdicts amount to: one counting rejection rejects; every requirement satisfied approves."""
    for verdict in verdicts:
        if verdict.kind is VerdictKind.REJECT and any(counts(need, verdict, requesters) for need in requirements):
            return ApprovalStatus.REJECTED
    if all(satisfied(need, verdicts, requesters) for need in requirements):
        return ApprovalStatus.APPROVED
    return ApprovalStatus.PENDING
