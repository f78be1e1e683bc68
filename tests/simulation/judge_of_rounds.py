"""Rules about rounds of input: asked of the requester alone, answered once, and what was acknowledged stands."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from simulation.asking import REFUSAL
from simulation.facts import Facts, Story
from simulation.ledger import Offer

_TAKEN = ("answer", "continue", "answered")


def a_question_gets_one_answer(facts: Facts) -> Iterator[str]:
    """However often it is handed over: no two different answers to one question reach a downstream."""
    for question in facts.ledger.questions:
        answers = {json.dumps(answer, sort_keys=True) for answer in question.received}
        if len(answers) > 1:
            yield f"{question.key} of {question.sending} was answered with {' and '.join(sorted(answers))}"


def an_answer_is_the_requesters(facts: Facts) -> Iterator[str]:
    """What reaches a downstream as an answer was given to that question, or to its round, by whoever made the call."""
    for question in facts.ledger.questions:
        story = facts.stories.get(question.sending.call or "")
        for answer in question.received:
            offer = _offer_of(facts, answer)
            if offer is None:
                if question.how == "round" or not _is_no_answer(answer):
                    yield f"{question.key} of {question.sending} was answered with {answer}, which nobody said"
            elif story is not None and offer.principal != story.row["principal"]:
                yield f"{offer.principal} answered {question.key} of {question.sending}, a call of another"
            elif offer.question != question.key and not offer.misnamed:
                yield f"{question.key} of {question.sending} was answered with what was said to {offer.question}"


def an_acknowledged_answer_stands(facts: Facts) -> Iterator[str]:
    """Of the answers to one question in one round, one is acknowledged, and no other of them reaches the downstream."""
    taken: dict[tuple[str, int, str], Offer] = {}
    for offer in facts.ledger.offers:
        if offer.acknowledged is None:
            continue
        first = taken.setdefault((offer.call, offer.round, offer.question), offer)
        if first is not offer:
            yield f"{offer.question} of {offer.call}: the answers {first.number} and {offer.number} were both taken"
    for question in facts.ledger.questions:
        for answer in question.received:
            given = _offer_of(facts, answer)
            meant = None if given is None else taken.get((given.call, given.round, given.question))
            if given is not None and meant is not None and meant is not given:
                yield f"{question.key}: the answer {meant.number} was taken, {given.number} reached {question.sending}"


def an_acknowledged_answer_is_not_withheld(facts: Facts) -> Iterator[str]:
    """Who asks in the midst of an attempt is not told that nobody answers, where somebody's answer was taken."""
    taken = {offer.question for offer in facts.ledger.offers if offer.acknowledged is not None and not offer.misnamed}
    for question in facts.ledger.questions:
        if question.how == "within" and question.key in taken and any(_is_no_answer(it) for it in question.received):
            yield f"{question.key} of {question.sending} was answered, and its downstream was told that it was not"


def an_acknowledged_answer_is_journaled(facts: Facts) -> Iterator[str]:
    """Who was told that an answer was taken finds it in the call's timeline, under the own name."""
    for offer in facts.ledger.offers:
        if offer.acknowledged is None:
            continue
        story = facts.stories.get(offer.call)
        if story is None:
            yield f"{offer.principal} answered {offer.call}, and it is gone"
        elif not any(entry["actor"] == offer.principal for entry in _entries(story, offer.round, *_TAKEN)):
            yield f"the answer of {offer.principal} to round {offer.round} of {offer.call} is not in its journal"


def an_acknowledged_answer_goes_on(facts: Facts) -> Iterator[str]:
    """The next request after the one that was answered by asking brings the answer along."""
    by_key = {question.key: question for question in facts.ledger.questions if question.how == "round"}
    for offer in facts.ledger.offers:
        question, story = by_key.get(offer.question), facts.stories.get(offer.call)
        if offer.acknowledged is None or offer.misnamed or question is None or story is None:
            continue
        later = [sending for sending in story.sendings if sending.moment > question.sending.moment]
        if later and later[0].carried.get(question.key) != offer.content:
            yield f"{later[0]} went on from {question.key} with {later[0].carried}, answered was {offer.content}"


def a_round_is_over_once(facts: Facts) -> Iterator[str]:
    """Rounds are counted without a gap, and a call moves on from each at most once."""
    for story in facts.stories.values():
        asked = [_number(entry) for entry in story.journal if entry["event"] == "ask"]
        if any(after <= before for before, after in pairwise(asked)):
            yield f"{story.id} was asked in the rounds {asked}"
        for number in asked:
            ends = _entries(story, number, "answer", "continue")
            if len(ends) > 1:
                yield f"{story.id} moved on from round {number} {len(ends)} times"


def _is_no_answer(answer: Any) -> bool:
    return answer in (REFUSAL, {"action": "cancel"})


def _offer_of(facts: Facts, answer: Any) -> Offer | None:
    number = (answer.get("content") or {}).get("offer")
    return None if number is None else facts.ledger.offers[number - 1]


def _entries(story: Story, number: int, *events: str) -> list[dict[str, Any]]:
    return [entry for entry in story.journal if entry["event"] in events and _number(entry) == number]


def _number(entry: dict[str, Any]) -> int:
    return int(json.loads(entry["detail"] or "{}").get("round", -1))


ROUND_RULES = (
    a_question_gets_one_answer,
    an_answer_is_the_requesters,
    an_acknowledged_answer_stands,
    an_acknowledged_answer_is_not_withheld,
    an_acknowledged_answer_is_journaled,
    an_acknowledged_answer_goes_on,
    a_round_is_over_once,
)
