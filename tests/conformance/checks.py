"""What the suite found out about a server, and how that differs from what it found out about another one."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

FAILURE = "FAILURE"
SUCCESS = "SUCCESS"
ABSENT = "ABSENT"

_RESULT_FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A scenario at the protocol revision it was run with."""

    revision: str
    scenario: str


@dataclass(frozen=True, slots=True)
class Check:
    id: str
    name: str
    status: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many passed, of how many that could."""

    passed: int
    total: int

    def __str__(self) -> str:
        return f"{self.passed}/{self.total}"

    @property
    def is_perfect(self) -> bool:
        return 0 < self.total == self.passed


@dataclass(frozen=True, slots=True)
class Difference:
    """A check that ended in another way through Holdfast than directly; `ABSENT` where it was not made at all."""

    key: Key
    check: str
    direct: str
    through: str
    message: str


Results = Mapping[Key, tuple[Check, ...]]


def read_results(folder: Path, revision: str) -> dict[Key, tuple[Check, ...]]:
    """Every scenario that left its checks in `folder`; one that was cut short leaves none."""
    found = {}
    for path in sorted(folder.glob("*/checks.json")):
        if match := _RESULT_FOLDER.fullmatch(path.parent.name):
            found[Key(revision, match["scenario"])] = tuple(
                Check(check["id"], check["name"], check["status"], check.get("errorMessage") or "")
                for check in json.loads(path.read_text())
            )
    return found


def passes(checks: Iterable[Check]) -> bool:
    """Whether a scenario passes, as the suite counts it: something was checked, and nothing failed."""
    statuses = [check.status for check in checks]
    return bool(statuses) and FAILURE not in statuses


def scenarios(results: Results, wanted: Iterable[Key]) -> Tally:
    """The scenarios among `wanted` that pass; one without a result does not."""
    keys = list(wanted)
    return Tally(sum(passes(results.get(key, ())) for key in keys), len(keys))


def checks(results: Results, wanted: Iterable[Key]) -> Tally:
    """The checks of the scenarios among `wanted` that could fail, and did not."""
    statuses = [check.status for key in wanted for check in results.get(key, ())]
    return Tally(statuses.count(SUCCESS), statuses.count(SUCCESS) + statuses.count(FAILURE))


def compare(direct: Results, through: Results, wanted: Iterable[Key]) -> list[Difference]:
    """Every check of the scenarios `wanted` that ended differently, better or worse, scored or not.

    An id may stand for several checks of a scenario; they are told apart by their names and then by their order.
    """
    return [
        difference for key in wanted for difference in _compare_scenario(key, direct.get(key, ()), through.get(key, ()))
    ]


def _compare_scenario(key: Key, direct: Iterable[Check], through: Iterable[Check]) -> Iterable[Difference]:
    ours, theirs = _by_identity(through), _by_identity(direct)
    for identity in [*theirs, *(identity for identity in ours if identity not in theirs)]:
        absent = Check(*identity, ABSENT)
        for expected, found in zip_longest(theirs[identity], ours[identity], fillvalue=absent):
            if expected.status != found.status:
                message = found.message or expected.message
                yield Difference(key, _title(identity), expected.status, found.status, message)


def _by_identity(found: Iterable[Check]) -> defaultdict[tuple[str, str], list[Check]]:
    grouped: defaultdict[tuple[str, str], list[Check]] = defaultdict(list)
    for check in found:
        grouped[check.id, check.name].append(check)
    return grouped


def _title(identity: tuple[str, str]) -> str:
    return f"{identity[0]} ({identity[1]})"
