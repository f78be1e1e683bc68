"""The tree of errors, each with a stable code and a sentence that names the cause and the mend.

HoldfastError
+-- ConfigError          the config cannot be used: file, line, cause, mend           (exit code 2)
+-- EngineError          the engine cannot start, or cannot be reached
+-- StoreError           the store refused or lost its disk
+-- DownstreamError      a downstream cannot be reached or misbehaves
+-- CallError            a call cannot be accepted as it was asked
|   +-- UnknownTool          no such tool
|   +-- InvalidArguments     the arguments do not fit the tool's schema
|   +-- KeyConflict          the key was used with other arguments
|   +-- OutcomePurged        executed long ago; the outcome is no longer kept
|   +-- Overloaded           its downstream has no room for more calls now
|   +-- BreakerOpen          its downstream loses answers and is left alone for a while
+-- AccessDenied         this principal may not do this
+-- NotFound             no such call or approval, or not yours
+-- WrongState           the call is not in a state that allows this
"""


class HoldfastError(Exception):
    """The base. `str(error)` is a sentence for people; `code` is stable and for programs."""

    code = "holdfast"


class ConfigError(HoldfastError):
    code = "config"


class EngineError(HoldfastError):
    code = "engine"


class StoreError(HoldfastError):
    """`cause` is the clause that says what is in the way and names no path: an agent may read it."""

    code = "store"

    def __init__(self, message: str, cause: str = "it cannot be used at the moment") -> None:
        super().__init__(message)
        self.cause = cause


class DownstreamError(HoldfastError):
    code = "downstream"


class CallError(HoldfastError):
    """`retry_after_s`: when the same call may be made again, in seconds, where that alone can mend it."""

    code = "call"
    retry_after_s: int | None = None


class UnknownTool(CallError):
    code = "unknown_tool"


class InvalidArguments(CallError):
    code = "invalid_arguments"


class KeyConflict(CallError):
    code = "key_conflict"


class OutcomePurged(CallError):
    code = "outcome_purged"


class TryAgainLater(CallError):
    """The call was turned away before anything was kept of it."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(TryAgainLater):
    code = "overloaded"


class BreakerOpen(TryAgainLater):
    code = "breaker_open"


class AccessDenied(HoldfastError):
    code = "access_denied"


class NotFound(HoldfastError):
    code = "not_found"


class WrongState(HoldfastError):
    code = "wrong_state"
