"""What is asked of the gateway, and what it answers."""

import time
from dataclasses import dataclass, field

from holdfast_store.model.errors import InvalidArguments
from holdfast_store.model.values import Call, Json, Principal
from holdfast_tools.client import SILENT, ClientProfile, Listener
from holdfast_tools.rounds import Ask
from holdfast_tools.schema import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One `tools/call` as a client asked for it, whatever protocol era it speaks.

    `tool` is the exposed name. `run` groups the calls of one piece of an agent's work. `client_call_id` tells
    apart two equal calls that the client means as two. `inline_wait_s` caps how long this client waits for the
    outcome before it is given a handle; None means the gateway's own setting. `deadline_s` is how long from now the
    call may still be sent; the tool's own setting may allow less. `asked_at` is when it arrived, by the
    monotonic clock. `client` is what the client said of itself, and `listener` hears what the downstream tells while
    the client waits.

    `input_responses` are answers to what the downstream asked or may ask, and `request_state` names the round that
    they answer. `ask` puts such questions to a client that can be asked while it waits. With `takes_task` the client
    is answered as soon as the downstream has made a task of the call; with `at_once` it does not wait at all: the
    call is admitted, also where it would run unrecorded, and answered as it then stands.
    """

    principal: Principal
    tool: str
    arguments: Json
    key: str | None = None
    client_call_id: str | None = None
    run: str | None = None
    traceparent: str | None = None
    inline_wait_s: float | None = None
    deadline_s: float | None = None
    client: ClientProfile = SILENT
    listener: Listener | None = None
    input_responses: Json | None = None
    request_state: str | None = None
    ask: Ask | None = None
    takes_task: bool = False
    at_once: bool = False
    asked_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Reply:
    """The call as it stands: ended, with its outcome, or open, as a handle.

    `replayed`: the outcome was stored before this request came. `joined`: another request began the call.
    """

    call: Call
    replayed: bool = False
    joined: bool = False


class RefusedArguments(InvalidArguments):
    """The arguments do not fit the tool's schema; `problems` names each with its JSON pointer."""

    def __init__(self, tool: str, problems: tuple[Problem, ...]) -> None:
        lines = "\n".join(f"- {problem.pointer or '/'}: {problem.message}" for problem in problems)
        super().__init__(f"The arguments of {tool} were refused; nothing ran. Mend these and call it again:\n{lines}")
        self.problems = problems
