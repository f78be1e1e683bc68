"""What a run came to: a table for people, JSON for programs, and the one answer that counts."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from conformance.checks import FAILURE, Difference, Key, Results, Tally, checks, compare, passes, scenarios
from conformance.legs import Leg
from conformance.suite import Requirements

LONGEST_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """The scenarios to look at: scored ones by revision, those of the tasks extension, and the others."""

    groups: Mapping[str, tuple[Key, ...]]

    @classmethod
    def of(cls, requirements: Mapping[str, Requirements], tasks: Sequence[Key], only: frozenset[str]) -> "Plan":
        """Everything; or, where `only` names scenarios, those at each revision that has them."""
        groups = {f"{revision}, scored": listed.scored for revision, listed in requirements.items()}
        groups["tasks extension"] = tuple(tasks)
        groups["not scored"] = tuple(
            key for listed in requirements.values() for key in listed.unscored if key not in tasks
        )
        chosen = {name: tuple(key for key in keys if not only or key.scenario in only) for name, keys in groups.items()}
        return cls({name: keys for name, keys in chosen.items() if keys})

    @property
    def all(self) -> tuple[Key, ...]:
        return tuple(key for keys in self.groups.values() for key in keys)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one leg came to. `wanted` are the scenarios that it had to run; `trouble` says why it could not."""

    leg: Leg
    wanted: tuple[Key, ...]
    results: Results = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    versions: Mapping[str, str]
    plan: Plan
    outcomes: Sequence[Outcome]
    """The direct run first."""

    @property
    def passed(self) -> bool:
        """Whether the direct run is perfect and nothing differs from it."""
        return not self.direct_failures() and not any(self.differences(outcome) for outcome in self.outcomes[1:])

    def direct_failures(self) -> list[Key]:
        """What the fixture itself does not pass; then the comparison says nothing."""
        direct = self.outcomes[0]
        may_be_empty = set(self.plan.groups.get("not scored", ()))
        return [
            key
            for key in direct.wanted
            if not passes(direct.results.get(key, ())) and not (key in may_be_empty and key in direct.results)
        ]

    def differences(self, outcome: Outcome) -> list[Difference]:
        return compare(self.outcomes[0].results, outcome.results, outcome.wanted)

    def tallies(self, outcome: Outcome) -> dict[str, tuple[Tally, Tally]]:
        """Scenarios and checks by group, of those groups that the leg had to run."""
        wanted = set(outcome.wanted)
        return {
            name: (scenarios(outcome.results, keys), checks(outcome.results, keys))
            for name, keys in self.plan.groups.items()
            if wanted.issuperset(keys)
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "versions": dict(self.versions),
            "legs": [self._leg_as_json(outcome) for outcome in self.outcomes],
        }

    def _leg_as_json(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "name": outcome.leg.name,
            "trouble": outcome.trouble or None,
            "groups": {
                name: {"scenarios": asdict(tallies[0]), "checks": asdict(tallies[1])}
                for name, tallies in self.tallies(outcome).items()
            },
            "scenarios": [
                {
                    "revision": key.revision,
                    "scenario": key.scenario,
                    "passed": passes(outcome.results.get(key, ())),
                    "checks": [asdict(check) for check in outcome.results.get(key, ())],
                }
                for key in outcome.wanted
            ],
            "differences": [asdict(difference) for difference in self.differences(outcome)],
        }

    def as_text(self) -> str:
        """The table, then whatever keeps the run from passing."""
        lines = [f"{name} {version}" for name, version in self.versions.items()]
        return "\n".join([", ".join(lines), "", *self._table(), *self._trouble(), "", self._verdict()])

    def _table(self) -> list[str]:
        tallies = [self.tallies(outcome) for outcome in self.outcomes]
        rows = [["scenarios, checks", *(outcome.leg.name for outcome in self.outcomes)]]
        for name in self.plan.groups:
            cells = [f"{found[name][0]}, {found[name][1]}" if name in found else "-" for found in tallies]
            rows.append([name, *cells])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    def _trouble(self) -> list[str]:
        lines = []
        direct = self.outcomes[0]
        for key in self.direct_failures():
            failed = [check for check in direct.results.get(key, ()) if check.status == FAILURE]
            lines.append(f"direct {key.revision} {key.scenario}: {'failed' if failed else 'did not finish'}")
            lines += [f"  {check.id}: {check.message}" for check in failed]
        for outcome in self.outcomes:
            if outcome.trouble:
                lines.append(f"{outcome.leg.name}: {outcome.trouble}")
        for outcome in self.outcomes[1:]:
            lines += self._differences_as_text(outcome)
        return ["", *lines] if lines else []

    def _differences_as_text(self, outcome: Outcome) -> list[str]:
        if outcome.trouble and not outcome.results:
            return []
        lines: list[str] = []
        shown: Key | None = None
        for difference in self.differences(outcome):
            finished = difference.key in outcome.results
            if difference.key != shown:
                shown = difference.key
                ending = "" if finished else ": did not finish"
                lines.append(f"{outcome.leg.name} {shown.revision} {shown.scenario}{ending}")
            if finished:
                lines.append(_line(difference))
        return lines

    def _verdict(self) -> str:
        if self.passed:
            compared = len(self.outcomes) > 1
            return "conformance: passed" + (", and through Holdfast no check ends differently" if compared else "")
        different = sum(len(self.differences(outcome)) for outcome in self.outcomes[1:])
        failing = len(self.direct_failures())
        return f"conformance: FAILED; {failing} scenarios fail directly, {different} checks differ through Holdfast"


def _line(difference: Difference) -> str:
    line = f"  {difference.direct} -> {difference.through} {difference.check}"
    message = textwrap.shorten(difference.message, LONGEST_MESSAGE, placeholder=" ...")
    return f"{line}: {message}" if message else line
