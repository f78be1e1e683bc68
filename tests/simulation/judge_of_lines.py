"""Rules about lines: calls that run one at a time do, in the order in which they became runnable."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from simulation.facts import Facts, Step, Story
from simulation.ledger import Sending

_IN_LINE = ("queued", "running", "waiting_for_input")


@dataclass(frozen=True, slots=True)
class Stay:
    """A call's time in its line: from the step by which it became runnable to the one by which it no longer was."""

    story: Story
    joined: Step
    claimed: Step | None
    left: Step | None

    def lasts_at(self, moment: int) -> bool:
        return self.joined.moment < moment and (self.left is None or moment < self.left.moment)


def who_came_first_goes_first(facts: Facts) -> Iterator[str]:
    """Nobody is claimed while another that became runnable before still stands in the line; so no two are at once."""
    for stays in _lines(facts):
        for earlier, later in combinations(stays, 2):
            if later.claimed is not None and earlier.lasts_at(later.claimed.moment):
                yield f"{later.story.id} was claimed while {earlier.story.id} was before it in its line"


def effects_of_a_line_do_not_overlap(facts: Facts) -> Iterator[str]:
    """Nothing is sent while what was sent for another of the line is neither answered nor given up."""
    for stays in _lines(facts):
        for one in stays:
            for other in stays:
                for sending in other.story.sendings if one.story is not other.story else ():
                    if other.lasts_at(sending.moment) and any(
                        earlier.moment < sending.moment < _over(one, earlier) for earlier in one.story.sendings
                    ):
                        yield f"{sending} was sent while {one.story.id}, of the same line, was under way"


def turn_came_at(facts: Facts, story: Story, step: Step) -> float:
    """When the last that was before a call in its line, as it became queued by `step`, had left; 0 for none."""
    ahead = [
        stay.left.updated_at
        for stays in _lines(facts)
        if any(stay.story is story for stay in stays)
        for stay in stays
        if stay.joined.moment < step.moment and stay.story is not story and stay.left is not None
    ]
    return max(ahead, default=0.0)


def _over(stay: Stay, sending: Sending) -> float:
    """Until when that attempt was under way; it never began where it was not sent during the stay."""
    if not stay.lasts_at(sending.moment):
        return sending.moment
    ends = (sending.concluded, sending.lost, None if stay.left is None else stay.left.moment)
    return min((end for end in ends if end is not None), default=float("inf"))


def _lines(facts: Facts) -> Sequence[list[Stay]]:
    """The stays in each line, in order."""
    lines: dict[str, list[Stay]] = {}
    for story in facts.stories.values():
        if story.sketch.in_order:
            value = story.arguments.get(story.sketch.ordered_by) if story.sketch.ordered_by else None
            name = json.dumps([story.row["tenant"], story.row["downstream"], story.sketch.name, value])
            lines.setdefault(name, []).extend(_stays(story))
    return [sorted(stays, key=lambda stay: stay.joined.moment) for stays in lines.values()]


def _stays(story: Story) -> Iterator[Stay]:
    joined: Step | None = None
    claimed: Step | None = None
    for step in story.steps:
        if step.now in _IN_LINE:
            joined = joined or step
            claimed = claimed or (step if step.now == "running" else None)
        elif joined is not None:
            yield Stay(story, joined, claimed, step)
            joined = claimed = None
    if joined is not None:
        yield Stay(story, joined, claimed, None)


LINE_RULES = (who_came_first_goes_first, effects_of_a_line_do_not_overlap)
