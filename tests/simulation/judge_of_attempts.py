"""Rules about what was sent: at most once, honest about doubt, and ended as it was answered."""

import json
from collections.abc import Iterator
from itertools import pairwise

from simulation.facts import Facts, Step, Story
from simulation.ledger import Sending

_RESOLVED = ("resolve_done", "resolve_failed", "resolve_retry")
_UNSENT_KINDS = ("unreachable", "denied", "rejected", "expired")


def no_effect_twice(facts: Facts) -> Iterator[str]:
    """Of a call that may not be repeated, at most one effect begins."""
    for story in facts.stories.values():
        begun = [sending for sending in story.sendings if sending.begun is not None]
        if len(begun) > 1 and not story.sketch.retry_safe:
            yield f"{story.id} ({story.sketch.name}) had its effect {len(begun)} times"


def what_may_have_happened_is_not_sent_again(facts: Facts) -> Iterator[str]:
    """After an attempt that may have had its effect, only an admin's word sends another."""
    for story in facts.stories.values():
        if story.sketch.retry_safe:
            continue
        for earlier, later in pairwise(story.sendings):
            if not _harmless(story, earlier, later.moment):
                yield f"{story.id}: attempt {later.fence} was sent while attempt {earlier.fence} may have happened"
        errors = [
            sending
            for sending in story.sendings
            if sending.handed is not None and sending.failed and not story.events_after(sending.moment, "resolve_retry")
        ]
        if len(errors) > story.sketch.max_attempts:
            yield f"{story.id} was sent {len(errors)} times after errors"


def what_may_have_happened_stays_in_doubt(facts: Facts) -> Iterator[str]:
    """A call whose last attempt may have had its effect is in doubt, until somebody or late evidence settles it."""
    for story in facts.stories.values():
        if not story.sendings or story.sketch.retry_safe:
            continue
        last = story.sendings[-1]
        unknown = last.handed is None and not story.events_after(last.moment, *_RESOLVED)
        if unknown and story.state != "in_doubt":
            yield f"{story.id} is {story.state} ({story.kind}), and nobody knows what became of attempt {last.fence}"


def doubt_has_a_reason(facts: Facts) -> Iterator[str]:
    """A call is given up for lost, or tried again, only where its engine died, or its attempt ended or ran late."""
    for story in facts.stories.values():
        for step in story.steps:
            if step.was != "running" or step.now not in ("in_doubt", "queued"):
                continue
            if not facts.ended_before(step.owner_was, step.moment) and not _over(story, step):
                yield f"{story.id} became {step.now} while attempt {step.fence} was well under way"


def evidence_settles(facts: Facts) -> Iterator[str]:
    """An answer that reached an engine which lives is not forgotten."""
    for story in facts.stories.values():
        if story.state != "in_doubt" or not story.sendings:
            continue
        last = story.sendings[-1]
        if last.handed is not None and last.process not in facts.ledger.ended and last.fence == story.row["fence"]:
            yield f"{story.id} is in doubt, although the answer to attempt {last.fence} came"


def an_outcome_is_the_last_attempts_answer(facts: Facts) -> Iterator[str]:
    """A result or an error is what the downstream said to the call's last attempt, or an admin's word."""
    for story in facts.stories.values():
        if story.kind in _UNSENT_KINDS and not story.sketch.read_only and not _all_harmless(story):
            yield f"{story.id} is {story.kind}, and was sent"
        if story.state == "cancelled" and not story.sketch.read_only and not _all_harmless(story):
            yield f"{story.id} is cancelled, and attempt {story.sendings[-1].fence} was sent"
        if story.kind not in ("result", "tool_error", "rpc_error") or story.journal[-1]["event"] == "resolve_done":
            continue
        if story.sketch.read_only or _resolved(story):
            continue
        answers = [each for each in story.sendings if each.fence == story.row["fence"] and each.handed is not None]
        payload = json.loads(story.row["outcome"])
        if not any(payload in (each.answer or {}).values() for each in answers):
            yield f"{story.id} ended with {payload}, which is not what its last attempt was answered"


def _resolved(story: Story) -> bool:
    return any(entry["event"] == "resolve_done" for entry in story.journal)


def _all_harmless(story: Story) -> bool:
    if story.sketch.retry_safe and story.state == "cancelled":
        return _not_cancelled_under_way(story)
    return all(_harmless(story, sending, story.steps[-1].moment + 1) for sending in story.sendings)


def _not_cancelled_under_way(story: Story) -> bool:
    """A call that may be repeated is cancelled between two attempts, never during one that was sent."""
    last = story.steps[-1]
    return last.was != "running" or all(sending.fence != last.fence for sending in story.sendings)


def _harmless(story: Story, sending: Sending, before: int) -> bool:
    """Whether it was known before that moment that `sending` has no effect to protect."""
    refused = sending.failed and sending.handed is not None and sending.handed < before
    retried = any(entry["moment"] < before for entry in story.events_after(sending.moment, "resolve_retry"))
    return refused or retried


def _over(story: Story, step: Step) -> bool:
    """Whether attempt `step.fence` was never sent, had ended one way or another, or had its time."""
    for sending in story.sendings:
        if sending.fence == step.fence and sending.moment < step.moment:
            lost = sending.lost is not None and sending.lost < step.moment
            failed = sending.failed and sending.handed is not None
            late = step.instant - sending.instant >= story.sketch.timeout_s - 0.4
            return lost or failed or late
    return True


ATTEMPT_RULES = (
    no_effect_twice,
    what_may_have_happened_is_not_sent_again,
    what_may_have_happened_stays_in_doubt,
    doubt_has_a_reason,
    evidence_settles,
    an_outcome_is_the_last_attempts_answer,
)
