"""What may have happened, and what may not: the promises, each as a rule over the facts of a run.

The judge knows the lifecycle table, what is true of each tool (`offer`), and the facts. It knows nothing of how the
product decides: no module that runs, stores or decides anything is used here.
"""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from simulation.facts import Facts, Story, gather
from simulation.judge_of_attempts import ATTEMPT_RULES
from simulation.judge_of_lines import LINE_RULES, turn_came_at
from simulation.judge_of_load import LOAD_RULES
from simulation.judge_of_people import PEOPLE_RULES
from simulation.judge_of_rounds import ROUND_RULES
from simulation.verdict import Violation

from holdfast_store.model.lifecycle import TERMINAL, TRANSITIONS

if TYPE_CHECKING:
    from simulation.world import World

_ENTRIES = frozenset(row.target.value for row in TRANSITIONS if row.source is None)
_EDGES = frozenset((row.source.value, row.target.value) for row in TRANSITIONS if row.source is not None)
_ROWS = {(row.event.value, None if row.source is None else row.source.value): row.target.value for row in TRANSITIONS}
_EVENTS = frozenset(row.event.value for row in TRANSITIONS)
_ENDS = frozenset(state.value for state in TERMINAL)

_SOON_S = 3.0
_HELD_UP = ("breaker_open", "waits_for_a_place")

Rule = Callable[[Facts], Iterator[str]]


def every_move_is_a_row_of_the_table(facts: Facts) -> Iterator[str]:
    """No terminal state is left, and no fence moves but by a claim."""
    for story in facts.stories.values():
        for step in story.steps:
            if step.was is None:
                recorded = story.sketch.read_only and step.now in _ENDS
                if step.now not in _ENTRIES and not recorded:
                    yield f"{story.id} was admitted as {step.now}"
                continue
            if (step.was, step.now) not in _EDGES:
                yield f"{story.id} moved from {step.was} to {step.now}"
            claimed = step.now == "running" and step.was == "queued"
            if step.fence - step.fence_was != int(claimed):
                yield f"{story.id} moved from fence {step.fence_was} to {step.fence} as it became {step.now}"


def the_journal_tells_what_the_row_did(facts: Facts) -> Iterator[str]:
    """Folding the journal along the table gives the row's moves, one by one."""
    for story in facts.stories.values():
        state: str | None = None
        moves = []
        for entry in story.journal:
            if entry["event"] in _EVENTS:
                target = _ROWS.get((entry["event"], state))
                if target is None or target != entry["state"]:
                    yield f"{story.id}: the journal says {entry['event']} from {state} to {entry['state']}"
                    return
                state = target
                moves.append((state, entry["attempt"]))
            elif entry["state"] != state:
                yield f"{story.id}: {entry['event']} is entered in {entry['state']}, and the call was {state}"
        seen = [(step.now, step.fence) for step in story.steps]
        if story.sketch.read_only and len(seen) == 1 and len(moves) == 2:
            moves = moves[1:]
        if moves != seen:
            yield f"{story.id}: the journal has {moves}, the row went through {seen}"


def nothing_is_stuck(facts: Facts) -> Iterator[str]:
    """When the world has come to rest, every call has ended, or is in doubt."""
    for story in facts.stories.values():
        if story.state not in _ENDS and story.state != "in_doubt":
            yield f"{story.id} ({story.sketch.name}) still is {story.state}"


def what_may_run_runs_soon(facts: Facts) -> Iterator[str]:
    """In fair weather a queued call is claimed within seconds: nothing waits for somebody to happen to look."""
    for story in facts.stories.values() if facts.plan.fair else ():
        if any(entry["event"] in _HELD_UP for entry in story.journal):
            continue
        for step, after in pairwise(story.steps):
            if step.now == "queued" and after.now == "running":
                could_at = max(step.updated_at, step.not_before or 0.0, turn_came_at(facts, story, step))
                waited_s = after.updated_at - could_at
                if waited_s > _SOON_S:
                    yield f"{story.id} could have run for {waited_s:.1f} s before it did"


def no_acknowledged_call_is_lost(facts: Facts) -> Iterator[str]:
    """What a client was told of is stored, and ends as it was told."""
    for telling in facts.ledger.tellings:
        story = facts.stories.get(telling.call)
        ended = telling.state.value in _ENDS
        if story is None:
            request = facts.ledger.requests.get(telling.request or 0)
            if request is None or not (ended and request.tool.endswith("__look")):
                yield f"{telling.call} was told to a client, and is gone"
        elif ended and (telling.state.value, telling.kind and telling.kind.value, telling.payload) != (
            story.state,
            story.kind,
            json.loads(story.row["outcome"] or "null"),
        ):
            yield f"{telling.call} was told as {telling.state.value} {telling.payload}, and is {story.state}"


def what_was_refused_is_not_there(facts: Facts) -> Iterator[str]:
    """A request that was answered with an error admitted nothing."""
    admitted: dict[str, Story] = {}
    for each in facts.stories.values():
        admitted.setdefault(each.row["traceparent"], each)
    for number, name, message in facts.ledger.refused:
        story = admitted.get(facts.ledger.requests[number].traceparent or "")
        if name != "NoAnswer" and story is not None:
            yield f"request {number} was answered with {name} ({message}), and {story.id} was admitted"


def a_key_is_used_once(facts: Facts) -> Iterator[str]:
    """Of all calls under one key at most one is ever sent, and at most one effect begins."""
    by_key: dict[tuple[str, ...], list[Story]] = {}
    for story in facts.stories.values():
        row = story.row
        if row["key"] is not None:
            by_key.setdefault((row["principal"], row["downstream"], row["original_name"], row["key"]), []).append(story)
    for key, stories in by_key.items():
        sent = [story for story in stories if story.sendings]
        if len(sent) > 1:
            yield f"the key {key} let {' and '.join(story.id for story in sent)} be sent"
        begun = [each for story in stories for each in story.sendings if each.begun is not None]
        if len(begun) > 1 and (stories[0].sketch.takes_key or not stories[0].sketch.retry_safe):
            yield f"the key {key} had {len(begun)} effects"


def a_repeat_joins(facts: Facts) -> Iterator[str]:
    """A blind repeat of what is open, or of what ended with nobody told, is no call of its own.

    What asks for input, or got none in time, may be made again: whoever repeats it wants to be asked.
    """
    unkeyed = [
        story
        for story in facts.stories.values()
        if story.row["key"] is None and story.row["resumes"] is None and not story.sketch.read_only
    ]
    for later in unkeyed:
        for earlier in unkeyed:
            if earlier.row["seq"] >= later.row["seq"]:
                break
            if _same(earlier, later) and _answers_for(facts, earlier, later):
                yield f"{later.id} repeats {earlier.id}, which should have answered for it"


def _same(one: Story, other: Story) -> bool:
    fields = ("principal", "tenant", "tool", "fingerprint", "identity")
    if any(one.row[field] != other.row[field] for field in fields):
        return False
    names = {one.row["client_call_id"], other.row["client_call_id"]} - {None}
    return len(names) < 2


def _answers_for(facts: Facts, earlier: Story, later: Story) -> bool:
    moment, at = later.steps[0].moment, later.row["created_at"]
    then = earlier.state_at(moment)
    if then is None:
        return False
    name = later.row["client_call_id"]
    named = bool(name is not None and earlier.row["client_call_id"] == name)
    if then.now == "waiting_for_input" or (then.kind == "expired" and earlier.was_asked):
        return False
    if then.now not in _ENDS:
        return named or float(earlier.row["created_at"]) <= at - 0.5
    told = any(
        telling.call == earlier.id and telling.state.value in _ENDS and telling.moment < moment
        for telling in facts.ledger.tellings
    )
    within = float(earlier.row["ended_at"]) >= at - 600.0
    return not told and then.kind != "cancelled" and within


def a_delivery_was_one(facts: Facts) -> Iterator[str]:
    """Only what a client was told counts as delivered."""
    told = {telling.call for telling in facts.ledger.tellings if telling.state.value in _ENDS}
    for story in facts.stories.values():
        if story.row["delivered"] and story.id not in told and not story.sketch.read_only:
            yield f"{story.id} counts as delivered, and nobody was told its outcome"


_RULES: tuple[Rule, ...] = (
    every_move_is_a_row_of_the_table,
    the_journal_tells_what_the_row_did,
    *ATTEMPT_RULES,
    *PEOPLE_RULES,
    *ROUND_RULES,
    *LOAD_RULES,
    *LINE_RULES,
    no_acknowledged_call_is_lost,
    what_was_refused_is_not_there,
    a_key_is_used_once,
    a_repeat_joins,
    a_delivery_was_one,
    nothing_is_stuck,
    what_may_run_runs_soon,
)


def judge(world: "World") -> tuple[Violation, ...]:
    """Every promise that the run broke."""
    facts = gather(world)
    return tuple(Violation(rule.__name__.replace("_", "-"), found) for rule in _RULES for found in rule(facts))
