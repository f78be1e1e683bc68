"""The policy in force, as one object for all who ask."""

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import Decision, Subject
from holdfast_store.model.values import Json


class LivePolicy(PolicySet):
    """Answers by the `PolicySet` that it was given last. Every single answer is out of one config."""

    def __init__(self, policy: PolicySet) -> None:
        self._in_force = policy

    def exchange(self, policy: PolicySet) -> None:
        """From the next question on, answer by `policy`."""
        self._in_force = policy

    def decide(self, subject: Subject) -> Decision:
        return self._in_force.decide(subject)

    def explain(self, subject: Subject) -> Decision:
        return self._in_force.explain(subject)

    def misfits(self, tool: str, server: str, schema: Json) -> dict[str, str]:
        return self._in_force.misfits(tool, server, schema)
