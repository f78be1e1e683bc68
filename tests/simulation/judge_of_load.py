"""Rules about load: what is turned away was never sent, retries are paid for, and a deadline is looked at.

How many are under way at once, and what passes an open breaker, is judged as it happens: see `watch` and `gates`.
"""

import json
from collections import Counter
from collections.abc import Iterator

from simulation.facts import Facts

_TURNED_AWAY = ("Overloaded", "BreakerOpen")
_PUT_BACK = "the engine stopped before it was sent"
_ROUNDING_S = 1e-6


def what_was_turned_away_was_never_sent(facts: Facts) -> Iterator[str]:
    """A request that was answered with "no room now" left nothing at its downstream."""
    sent = {sending.traceparent: sending for sending in facts.ledger.sendings if sending.traceparent}
    for number, name, message in facts.ledger.refused:
        sending = sent.get(facts.ledger.requests[number].traceparent or "")
        if name in _TURNED_AWAY and sending is not None:
            yield f"request {number} was turned away ({message}), and {sending} had been sent"


def retries_are_paid_for(facts: Facts) -> Iterator[str]:
    """An engine tries a request again that was sent only where the retry budget of its downstream granted that."""
    granted = Counter((grant.process, grant.downstream) for grant in facts.ledger.grants)
    for story in facts.stories.values():
        for entry in story.journal:
            detail = json.loads(entry["detail"] or "{}")
            step = story.state_at(entry["moment"])
            if entry["event"] != "retry" or entry["actor"] != "engine" or step is None:
                continue
            sent = any(sending.fence == entry["attempt"] for sending in story.sendings)
            if not sent or detail.get("reason") == _PUT_BACK:
                continue
            payer = facts.ledger.owners.get(step.owner_was or "", 0), str(story.row["downstream"])
            granted[payer] -= 1
            if granted[payer] < 0:
                yield f"{story.id} was tried again after attempt {entry['attempt']}, and no budget granted that"


def nothing_is_sent_after_its_deadline(facts: Facts) -> Iterator[str]:
    """What is left until the deadline is what the store said at the claim; from then on time itself counts."""
    for story in facts.stories.values():
        deadline_at = story.row["deadline_at"]
        for sending in story.sendings if deadline_at is not None else ():
            claims = [step for step in story.steps if step.now == "running" and step.moment < sending.moment]
            left_s = deadline_at - claims[-1].updated_at
            if left_s <= 0 and claims[-1].was is not None:
                yield f"{story.id} was claimed {-left_s:.3f} s after its deadline"
            late_s = sending.instant - claims[-1].instant - left_s
            if late_s > _ROUNDING_S:
                yield f"{sending} was sent {late_s:.3f} s after its deadline"


LOAD_RULES = (
    what_was_turned_away_was_never_sent,
    retries_are_paid_for,
    nothing_is_sent_after_its_deadline,
)
