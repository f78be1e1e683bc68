"""Rules about approvals: decided once, by people who may, and in time."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from simulation.facts import Facts, Story
from simulation.offer import ROLES


def an_approval_is_decided_once(facts: Facts) -> Iterator[str]:
    """A decided approval never changes."""
    for decision in facts.decisions:
        if decision["was"] != "pending" or decision["now"] == "pending":
            yield f"the approval {decision['approval']} went from {decision['was']} to {decision['now']}"


def verdicts_add_up(facts: Facts) -> Iterator[str]:
    """Approved and rejected by people who may, none of them a requester, as many as it takes."""
    for story in facts.stories.values():
        for approval in story.approvals:
            for need in json.loads(approval["requirements"]):
                yes, no = _counted(story, approval, need, "approve"), _counted(story, approval, need, "reject")
                if approval["status"] == "approved" and (len(yes) < need["min_verdicts"] or no):
                    yield f"{approval['id']} of {story.id} is approved by {yes}, rejected by {no}"
                if approval["status"] in ("expired", "pending") and no:
                    yield f"{approval['id']} of {story.id} is {approval['status']}, and {no} rejected it"
            if approval["status"] == "rejected" and not any(v["kind"] == "reject" for v in approval["verdicts"]):
                yield f"{approval['id']} of {story.id} is rejected by nobody"


def _counted(story: Story, approval: dict[str, Any], need: dict[str, Any], kind: str) -> list[str]:
    asked_for_it = set(json.loads(story.row["requesters"]))
    return sorted(
        verdict["principal"]
        for verdict in approval["verdicts"]
        if verdict["kind"] == kind
        and ROLES[verdict["principal"]] & set(need["roles"])
        and verdict["principal"] not in asked_for_it
    )


def nobody_decides_their_own(facts: Facts) -> Iterator[str]:
    """No verdict of whoever asked for the call is even kept."""
    for story in facts.stories.values():
        for approval in story.approvals:
            own = {verdict["principal"] for verdict in approval["verdicts"]} & set(json.loads(story.row["requesters"]))
            if own:
                yield f"{', '.join(own)} decided {approval['id']} of the own {story.id}"


def a_vote_that_was_confirmed_is_kept(facts: Facts) -> Iterator[str]:
    """Who was told that a verdict counts finds it, and the approval as it was told."""
    approvals = {approval["id"]: approval for story in facts.stories.values() for approval in story.approvals}
    for vote in facts.ledger.votes:
        approval = approvals.get(vote.approval)
        if approval is None:
            yield f"{vote.person} decided {vote.approval}, and it is gone"
            continue
        if (vote.person, vote.kind) not in {(v["principal"], v["kind"]) for v in approval["verdicts"]}:
            yield f"the {vote.kind} of {vote.person} on {vote.approval} is gone"
        if vote.status.value != "pending" and vote.status.value != approval["status"]:
            yield f"{vote.person} was told that {vote.approval} is {vote.status.value}; it is {approval['status']}"


def what_waits_runs_only_when_approved_and_in_time(facts: Facts) -> Iterator[str]:
    """A parked call leaves by a verdict, an end or a withdrawal; approved, it starts in time."""
    for story in facts.stories.values():
        for step, after in pairwise(story.steps):
            if (step.was, step.now, after.now) != ("waiting_for_approval", "queued", "running"):
                continue
            approved = [a for a in story.approvals if a["status"] == "approved" and a["decided_at"] == step.updated_at]
            if not approved:
                yield f"{story.id} was queued without an approval"
            elif after.updated_at >= step.updated_at + approved[0]["execute_within_s"]:
                yield f"{story.id} started later after its approval than it may"


def what_was_refused_ran_never(facts: Facts) -> Iterator[str]:
    """Rejected, denied, expired: never sent after that, nor before."""
    for story in facts.stories.values():
        if story.kind in ("rejected", "denied", "expired"):
            for sending in story.sendings:
                if sending.moment > story.steps[-1].moment:
                    yield f"{story.id} is {story.kind}, and was sent afterwards"


def nothing_is_withdrawn_unasked(facts: Facts) -> Iterator[str]:
    """Nobody asked to cancel it: then only what has neither key nor handle is, once its client has gone.

    That a handle was given may be lost with a crash or a fault of the disk.
    """
    for story in facts.stories.values() if not facts.plan.disk_fault else ():
        if story.state != "cancelled" or story.id in facts.ledger.cancels:
            continue
        cancelled = story.steps[-1].moment
        since = max((ended for ended in facts.ledger.ended.values() if ended < cancelled), default=0)
        told = [each for each in facts.ledger.tellings if each.call == story.id and since < each.moment < cancelled]
        if story.row["key"] is not None or told:
            yield f"{story.id} was cancelled, and nobody had asked for that"


PEOPLE_RULES = (
    an_approval_is_decided_once,
    verdicts_add_up,
    nobody_decides_their_own,
    a_vote_that_was_confirmed_is_kept,
    what_waits_runs_only_when_approved_and_in_time,
    what_was_refused_ran_never,
    nothing_is_withdrawn_unasked,
)
