"""Whether an approval that people gave earlier still covers a call."""

from holdfast_policy.values import Decision, Effect
from holdfast_store.model.quorum import satisfied
from holdfast_store.model.values import Approval


def still_satisfied(decision: Decision, approval: Approval) -> bool:
    """Whether a call with this `approval` may run under today's `decision`.

    A deny never is, an allow always. Otherwise each rule that asks today must be one that was asked about, in the very
    same text (its digest), and the approval's verdicts must satisfy what it requires today. That the approval was
    given for these arguments and this definition of the tool is for the caller to check.
    """
    if decision.effect is not Effect.REQUIRE_APPROVAL:
        return decision.effect is Effect.ALLOW
    asked = {need.digest for need in approval.requirements}
    return bool(decision.requirements) and all(
        need.digest in asked and satisfied(need, approval.verdicts, approval.requesters)
        for need in decision.requirements
    )
