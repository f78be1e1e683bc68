"""One rule, compiled: whether it looks at a call, and how it stands to it."""

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from holdfast_policy.annotations import Annotations
from holdfast_policy.conditions import Bindings, BrokenCondition, Condition, Failed, bind
from holdfast_policy.fit import misfit
from holdfast_policy.values import ApprovalTerms, Match, Rule, Subject
from holdfast_store.model.values import Requirement


class RuleProblem(Exception):
    """A rule cannot be used. `message` is a clause; after "; ", where there is one, it names the mend."""

    def __init__(self, rule_id: str, message: str) -> None:
        super().__init__(rule_id, message)
        self.rule_id = rule_id
        self.message = message

    def __str__(self) -> str:
        return f"rule {self.rule_id}: {self.message}"


class Standing(Enum):
    """How a rule stands to a call."""

    MATCHES = "matches"
    OVERLOOKS = "overlooks"  # its `match` is about other calls
    HOLDS_NOT = "holds_not"  # its `when` is false
    FAILS = "fails"  # whether it applies could not be found out


class View:
    """A call as the conditions of all rules share it: bound once, and only when the first condition asks."""

    __slots__ = ("_bindings", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._bindings: Bindings | Failed | None = None

    def bindings(self) -> Bindings | Failed:
        if self._bindings is None:
            subject = self.subject
            self._bindings = bind(subject.tool, subject.server, subject.principal, subject.arguments)
        return self._bindings


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its condition compiled and its terms settled."""

    rule: Rule
    condition: Condition | None
    terms: ApprovalTerms
    requirement: Requirement

    @classmethod
    def of(cls, rule: Rule, defaults: ApprovalTerms) -> "CompiledRule":
        """Compile `rule`. Raises `RuleProblem` where its condition is not one, or asks for what no principal has."""
        condition = None
        if rule.when is not None:
            try:
                condition = Condition(rule.when)
            except BrokenCondition as error:
                raise RuleProblem(rule.id, f"in `when`: {error}") from error
            nowhere = misfit(condition.tree, True)
            if nowhere is not None:
                raise RuleProblem(rule.id, f"in `when`: {nowhere}")
        terms = rule.approval or defaults
        return cls(rule, condition, terms, requirement(rule.id, rule.digest, terms, rule.reason))

    def covers(self, tool: str, server: str) -> bool:
        """Whether its globs match this tool of this downstream."""
        match = self.rule.match
        return fnmatchcase(tool, match.tool) and fnmatchcase(server, match.server)

    def stands(self, view: View) -> tuple[Standing, str]:
        """How it stands to a call that its globs cover; where it fails, with the reason."""
        subject, match = view.subject, self.rule.match
        if match.roles and match.roles.isdisjoint(subject.principal.roles):
            return Standing.OVERLOOKS, ""
        try:
            if match.annotations and _differing(match, subject.annotations) is not None:
                return Standing.OVERLOOKS, ""
        except KeyError as error:
            return Standing.FAILS, f"there is no annotation {error.args[0]}"
        if self.condition is None:
            return Standing.MATCHES, ""
        bindings = view.bindings()
        held = bindings if isinstance(bindings, Failed) else self.condition.holds(bindings)
        if isinstance(held, Failed):
            return Standing.FAILS, held.why
        return (Standing.MATCHES if held else Standing.HOLDS_NOT), ""

    def overlooked_because(self, subject: Subject) -> str:
        """Which part of its `match` is about other calls than this one."""
        match = self.rule.match
        if not fnmatchcase(subject.tool, match.tool):
            return f"match.tool {match.tool} is not about {subject.tool}"
        if not fnmatchcase(subject.server, match.server):
            return f"match.server {match.server} is not about {subject.server}"
        if match.roles and match.roles.isdisjoint(subject.principal.roles):
            return f"match.roles: {subject.principal.id} holds none of {', '.join(sorted(match.roles))}"
        hint = _differing(match, subject.annotations)
        return f"match.annotations: {hint} is not {str(match.annotations[hint]).lower()}" if hint else "match covers it"


def _differing(match: Match, annotations: Annotations) -> str | None:
    """The first hint that `match` wants otherwise. Raises `KeyError` for one that does not exist."""
    return next((hint for hint, wanted in match.annotations.items() if annotations.hint(hint) is not wanted), None)


def requirement(rule_id: str, digest: str, terms: ApprovalTerms, reason: str) -> Requirement:
    """What `terms` demand in the name of a rule."""
    return Requirement(
        rule=rule_id,
        digest=digest,
        min_verdicts=terms.min_verdicts,
        roles=terms.roles,
        prevent_self_review=terms.prevent_self_review,
        reason=reason,
    )
