"""Rules about what was sent: at most once, honest about doubt, and ended as it was answered."""

import json
from collections.abc import Iterator
from itertools import pairwise

from simulation.facts import Facts, Step, Story
from simulation.ledger import Sending

from holdfast_store.model.values import Json

_GIVEN_UP = ("retry", "lose")
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
        unknown = (
            last.concluded is None
            and not _never_answered(story, last)
            and not story.events_after(last.moment, *_RESOLVED)
        )
        if unknown and story.state != "in_doubt":
            yield f"{story.id} is {story.state} ({story.kind}), and nobody knows what became of attempt {last.fence}"


def doubt_has_a_reason(facts: Facts) -> Iterator[str]:
    """A call is given up for lost, or tried again, only where its engine died, or its attempt ended or ran late."""
    for story in facts.stories.values():
        for step in story.steps:
            if step.now not in ("in_doubt", "queued") or story.event_of(step) not in _GIVEN_UP:
                continue
            if not facts.ended_before(step.owner_was, step.moment) and not _over(story, step):
                yield f"{story.id} became {step.now} while attempt {step.fence} was well under way"


def evidence_settles(facts: Facts) -> Iterator[str]:
    """An answer that reached an engine which lives is not forgotten."""
    for story in facts.stories.values():
        if story.state != "in_doubt" or not story.sendings:
            continue
        last = story.sendings[-1]
        if last.asks or last.task is not None:
            continue
        if last.handed is not None and last.process not in facts.ledger.ended and last.fence == story.row["fence"]:
            yield f"{story.id} is in doubt, although the answer to attempt {last.fence} came"


def an_outcome_is_the_last_attempts_answer(facts: Facts) -> Iterator[str]:
    """A result or an error is what the downstream said to the call's last attempt, or an admin's word."""
    for story in facts.stories.values():
        tried_before = story.kind == "expired" and story.row["losses"] > 0
        unsent = story.kind in _UNSENT_KINDS and not tried_before
        if unsent and not story.sketch.read_only and not _all_harmless(story):
            yield f"{story.id} is {story.kind}, and was sent"
        if story.state == "cancelled" and not story.sketch.read_only and not _all_harmless(story):
            yield f"{story.id} is cancelled, and attempt {story.sendings[-1].fence} was sent"
        if story.kind not in ("result", "tool_error", "rpc_error") or story.journal[-1]["event"] == "resolve_done":
            continue
        if story.sketch.read_only or _resolved(story):
            continue
        payload = json.loads(story.row["outcome"])
        if not any(payload in answer.values() for answer in _last_answers(story)):
            yield f"{story.id} ended with {payload}, which is not what its last attempt was answered"


def _last_answers(story: Story) -> list[Json]:
    """The answer to the call's last attempt, or what its task came to, which later attempts only watched."""
    last = story.sendings[-1] if story.sendings else None
    if last is not None and last.task is not None:
        return [last.task.answer] if last.task.answer is not None else []
    answers = [each for each in story.sendings if each.fence == story.row["fence"] and each.handed is not None]
    return [each.answer for each in answers if each.answer is not None]


def _never_answered(story: Story, sending: Sending) -> bool:
    """Whether the call ended while its task asked something, so that its effect needs what nobody gave."""
    return sending.task is not None and sending.task.asking and story.steps[-1].now in ("failed", "cancelled")


def _resolved(story: Story) -> bool:
    return any(entry["event"] == "resolve_done" for entry in story.journal)


def _all_harmless(story: Story) -> bool:
    if story.sketch.retry_safe and story.state == "cancelled":
        return _not_cancelled_under_way(story)
    return all(_harmless(story, sending, story.steps[-1].moment + 1) for sending in story.sendings)


def _not_cancelled_under_way(story: Story) -> bool:
    """A call that may be repeated is cancelled between two attempts, never during one that was sent."""
    last = story.steps[-1]
    under_way = [sending for sending in story.sendings if sending.fence == last.fence]
    return last.was != "running" or all(each.task is not None and each.task.cancelled for each in under_way)


def _harmless(story: Story, sending: Sending, before: int) -> bool:
    """Whether it was known before that moment that `sending` has no effect to protect."""
    concluded = sending.concluded is not None and sending.concluded < before
    withdrawn = sending.task is not None and sending.task.cancelled
    refused = concluded and (sending.failed or sending.asks or withdrawn)
    retried = any(entry["moment"] < before for entry in story.events_after(sending.moment, "resolve_retry"))
    return refused or retried or _never_answered(story, sending)


def _over(story: Story, step: Step) -> bool:
    """Whether attempt `step.fence` was never sent, had ended one way or another, or had its time."""
    for sending in story.sendings:
        if sending.fence == step.fence and sending.moment < step.moment:
            lost = sending.lost is not None and sending.lost < step.moment
            failed = sending.failed and sending.handed is not None
            late = step.instant - sending.instant >= story.sketch.timeout_s - 0.4
            return lost or failed or late or _left(story, sending, step)
    return True


def _left(story: Story, sending: Sending, step: Step) -> bool:
    """Whether its task is only left to be watched again, or can be no more: nothing is heard, or it is elsewhere."""
    task = sending.task
    if task is None:
        return False
    heard = max((at for at in task.heard if at <= step.instant), default=0.0)
    unheard = step.instant - heard >= story.sketch.timeout_s - 0.4
    nobody_runs_it = step.owner_was is None and story.is_elsewhere
    return nobody_runs_it or step.now == "queued" or unheard or (task.gone is not None and task.gone < step.moment)


ATTEMPT_RULES = (
    no_effect_twice,
    what_may_have_happened_is_not_sent_again,
    what_may_have_happened_stays_in_doubt,
    doubt_has_a_reason,
    evidence_settles,
    an_outcome_is_the_last_attempts_answer,
)
