"""What is under way between one client and the engine, so that the client can outlive its engine. No I/O.

Requests go both ways. Of the client's, those that were handed to an engine that died are answered here with an error,
and never sent again. Of the engine's, those that died with it are cancelled at the client, whose late answers are
dropped; the next engine's get ids of their own, so that no answer to one reaches the other.
"""

import json
from collections.abc import Iterable

NO_ENGINE = -32000
RESTARTED_MESSAGE = "the engine restarted; the call is kept: see holdfast__list_tasks"

NOT_SERVED_MESSAGE = "no engine of Holdfast serves this client, so nothing ran for this request"

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"
LISTEN = "subscriptions/listen"

Message = dict[str, object]
MessageId = str | int | float


class ReplayRefused(Exception):
    """A restarted engine refused the client's `initialize`, which the engine before had accepted."""


class Outgoing:
    """One line for the engine. `request` and `method` are set for a request, `answer` for an answer to one."""

    __slots__ = ("answer", "cancels", "line", "method", "replayed", "request", "rest")

    def __init__(self, line: bytes, message: Message) -> None:
        self.line = line
        self.rest = memoryview(line)
        method = message.get("method")
        self.method = method if isinstance(method, str) else None
        self.request = _id(message.get("id")) if self.method else None
        self.answer = None if self.method else _id(message.get("id"))
        self.cancels = _cancelled(message) if self.method == CANCELLED else None
        self.replayed = False

    @property
    def begun(self) -> bool:
        """Whether any byte of it has left: then it counts as sent."""
        return len(self.rest) < len(self.line)


class Conversation:
    """The client's unanswered requests, the engine's, and the two lines that open a session before 2026."""

    def __init__(self) -> None:
        self.goodbye = False
        self._generation = 0
        self._unanswered: dict[MessageId, str] = {}
        self._asked: dict[MessageId, MessageId] = {}  # id at the client -> id at the engine
        self._orphans: set[MessageId] = set()
        self._initialize: Outgoing | None = None
        self._initialized: Outgoing | None = None
        self._initializing: MessageId | None = None

    @property
    def waiting(self) -> bool:
        """Whether the client has requests that will be answered yet: a subscription is not, before it ends."""
        return any(method != LISTEN for method in self._unanswered.values())

    @property
    def held(self) -> bool:
        """Whether lines must wait: the engine has not yet answered the `initialize` that was replayed."""
        return self._initializing is not None

    def connected(self) -> list[Outgoing]:
        """A fresh engine is there: the lines to replay before any other."""
        self._generation += 1
        self.goodbye = False
        replay = []
        for line in (self._initialize, self._initialized):
            if line is not None:
                again = Outgoing(line.line, _message(line.line))
                again.replayed = True
                replay.append(again)
        return replay

    def from_client(self, line: bytes) -> Outgoing | None:
        """The line to send for a line that the client wrote; None for an answer that nobody waits for any more."""
        message = _message(line)
        outgoing = Outgoing(line, message)
        if outgoing.answer is None:
            return outgoing
        if outgoing.answer in self._orphans:
            self._orphans.discard(outgoing.answer)
            return None
        engine_id = self._asked.pop(outgoing.answer, outgoing.answer)
        if engine_id == outgoing.answer:
            return outgoing
        return Outgoing(_line({**message, "id": engine_id}), {"id": engine_id})

    def begun(self, outgoing: Outgoing) -> None:
        """The first byte of `outgoing` has left: from now on it counts as sent."""
        if outgoing.replayed:
            if outgoing.method == INITIALIZE:
                self._initializing = outgoing.request
            return
        if outgoing.method == INITIALIZE:
            self._initialize, self._initialized = outgoing, None
        elif outgoing.method == INITIALIZED:
            self._initialized = outgoing
        if outgoing.request is not None and outgoing.method is not None:
            self._unanswered[outgoing.request] = outgoing.method
        if outgoing.cancels is not None:
            self._unanswered.pop(outgoing.cancels, None)

    def from_engine(self, line: bytes) -> bytes | None:
        """The line to write for a line that the engine sent; None where it is not for the client.

        Raises `ReplayRefused`.
        """
        message = _message(line)
        if "holdfast" in message:
            self.goodbye = True
            return None
        message_id = _id(message.get("id"))
        if "method" in message:
            return self._engine_asks(line, message, message_id)
        if message_id is not None and message_id == self._initializing:
            return self._replay_answered(line, message)
        if message_id is not None:
            self._unanswered.pop(message_id, None)
        return line

    def lost(self, unsent: Iterable[Outgoing]) -> tuple[list[bytes], list[Outgoing]]:
        """The engine is gone: what to tell the client, and which of the `unsent` lines are for the next engine."""
        opening = self._initialize.request if self._initialize is not None else None
        told = [_restarted(request) for request in self._unanswered if request != opening]
        # An `initialize` that was never answered is answered by the engine that it is replayed to.
        self._unanswered = {request: method for request, method in self._unanswered.items() if request == opening}
        told += [_cancel(request) for request in self._asked]
        self._orphans.update(self._asked)
        self._asked = {}
        self._initializing = None
        kept = [line for line in unsent if not line.begun and not line.replayed and line.answer is None]
        return told, kept

    def turned_away(self, unsent: Iterable[Outgoing], cause: str) -> list[bytes]:
        """Nobody serves the client any more: what to tell it of all that it still waits for."""
        told, kept = self.lost(unsent)
        opening = list(self._unanswered)
        self._unanswered = {}
        unserved = [*opening, *(line.request for line in kept if line.request is not None)]
        return told + [_not_served(request, cause) for request in dict.fromkeys(unserved)]

    def _engine_asks(self, line: bytes, message: Message, message_id: MessageId | None) -> bytes:
        """A request or a notification of the engine; ids are its own only as long as it is the first."""
        if message_id is not None:
            client_id = self._client_id(message_id)
            self._asked[client_id] = message_id
            return line if client_id == message_id else _line({**message, "id": client_id})
        cancelled = _cancelled(message) if message["method"] == CANCELLED else None
        if cancelled is None:
            return line
        client_id = self._client_id(cancelled)
        self._asked.pop(client_id, None)
        if client_id == cancelled:
            return line
        params = message["params"]
        assert isinstance(params, dict)  # noqa: S101 - or it had not named a request
        return _line({**message, "params": {**params, "requestId": client_id}})

    def _client_id(self, engine_id: MessageId) -> MessageId:
        return engine_id if self._generation == 1 else f"holdfast:{self._generation}:{json.dumps(engine_id)}"

    def _replay_answered(self, line: bytes, message: Message) -> bytes | None:
        opening = self._initializing
        self._initializing = None
        if opening is not None and self._unanswered.pop(opening, None) is not None:
            return line
        if "error" in message:
            raise ReplayRefused(f"the restarted engine refused the session: {json.dumps(message['error'])}")
        return None


def _message(line: bytes) -> Message:
    """The JSON object in `line`; empty where it is none: such a line passes as it is, and the engine answers it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _id(value: object) -> MessageId | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _cancelled(message: Message) -> MessageId | None:
    params = message.get("params")
    return _id(params.get("requestId")) if isinstance(params, dict) else None


def _restarted(request: MessageId) -> bytes:
    error = {"code": NO_ENGINE, "message": RESTARTED_MESSAGE, "data": {"retryable": False}}
    return _line({"jsonrpc": "2.0", "id": request, "error": error})


def _not_served(request: MessageId, cause: str) -> bytes:
    error = {"code": NO_ENGINE, "message": f"{NOT_SERVED_MESSAGE}: {cause}", "data": {"retryable": False}}
    return _line({"jsonrpc": "2.0", "id": request, "error": error})


def _cancel(request: MessageId) -> bytes:
    params = {"requestId": request, "reason": "the engine restarted"}
    return _line({"jsonrpc": "2.0", "method": CANCELLED, "params": params})


def _line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
