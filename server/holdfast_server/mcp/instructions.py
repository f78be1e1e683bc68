"""What the model is told once, when its client connects."""

INSTRUCTIONS = """\
Holdfast stands between you and these tools and makes every call reliable.
- Arguments are checked first. A refused call ran nothing: mend what the answer lists and call again.
- A slow or risky call answers with a task id instead of a result. Nothing failed: ask holdfast__wait_task or \
holdfast__get_task for it. Do not repeat the call.
- "Waiting for approval" means that a person other than you must approve it. You cannot approve it; go on with other \
work and look again later.
- To retry safely, send the same arguments with the same _meta["dev.holdfast/idempotencyKey"]: the call runs once, \
and every repeat gets its outcome.
- "Outcome unknown" means that the call may have had its effect. Never repeat it: an admin has to look.
- After a restart, holdfast__list_tasks names your calls; finished ones come with their results."""
