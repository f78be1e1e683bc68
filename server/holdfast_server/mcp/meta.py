"""The names that Holdfast uses in `_meta`, and the capabilities it looks for."""

CALL = "dev.holdfast/call"
"""On every answer: ``{"id", "status", "attempts", "replayed", "joined", "rules"}``."""

IDEMPOTENCY_KEY = "dev.holdfast/idempotencyKey"
DEADLINE = "dev.holdfast/deadline"
"""How long from now the call may still be sent: a duration such as ``"30s"``."""

RUN = "dev.holdfast/run"
CLIENT_CALL_ID = "claudecode/toolUseId"
TRACEPARENT = "traceparent"

KEY_HEADER = "idempotency-key"
