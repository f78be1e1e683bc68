"""What the calling client said of itself, and where it hears of its request while it waits.

A downstream is told this, never Holdfast's own abilities: what it may ask of its caller is what the caller can do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast_store.model.values import Json
from holdfast_tools import sdk

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""The severities of log messages, least severe first (RFC 5424, section 6.2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProfile:
    """One client, as far as it told: in each request since 2026-07-28, at its handshake before.

    `capabilities` and `info` are as they stood on the wire. `log_level` is the least severe level it wants log
    messages of: as its request says, or as it set for its session; None where it said nothing. `meta` is what else
    the `_meta` of its request holds for the downstream.
    """

    protocol_version: str | None = None
    capabilities: Json = field(default_factory=dict)
    info: Json | None = None
    log_level: str | None = None
    meta: Json = field(default_factory=dict)

    @property
    def is_modern(self) -> bool:
        """Whether it speaks protocol version 2026-07-28 or later."""
        return sdk.is_modern(self.protocol_version)

    def declares(self, needed: Json) -> bool:
        """Whether it declared all these capabilities, each at least so far as it stands there."""
        return _covers(self.capabilities, needed)

    def wants_message(self, level: object) -> bool:
        """Whether it takes log messages of this level.

        Since 2026-07-28 only who asked for messages gets any; before, a server may send them until it is told.
        """
        if self.log_level is None:
            return not self.is_modern
        return level in LOG_LEVELS and LOG_LEVELS.index(str(level)) >= severity(self.log_level)

    def to_json(self) -> Json:
        """As JSON, to be stored with a call."""
        told = {
            "protocolVersion": self.protocol_version,
            "capabilities": self.capabilities,
            "info": self.info,
            "logLevel": self.log_level,
            "meta": self.meta or None,
        }
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> "ClientProfile":
        """The profile that `to_json` wrote; a client that said nothing where there is none."""
        stored = stored or {}
        return cls(
            protocol_version=stored.get("protocolVersion"),
            capabilities=stored.get("capabilities") or {},
            info=stored.get("info"),
            log_level=stored.get("logLevel"),
            meta=stored.get("meta") or {},
        )


SILENT = ClientProfile()
"""A client that said nothing of itself."""


class Listener(Protocol):
    """A client that waits for its request: what the downstream tells on the way reaches it, in order.

    No method blocks or raises; what comes after the answer is dropped.
    """

    def follow(self, call_id: str) -> None:
        """From now on the request waits for this call."""
        ...

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """The downstream's progress, for the token under which the client asked for it."""
        ...

    def message(self, params: Json) -> None:
        """The params of a `notifications/message`."""
        ...


def _covers(declared: Any, needed: Any) -> bool:
    if not isinstance(needed, dict):
        return bool(declared == needed)
    return isinstance(declared, dict) and all(
        name in declared and _covers(declared[name], further) for name, further in needed.items()
    )


def severity(level: str) -> int:
    """How severe a level is; an unknown one counts as the least."""
    return LOG_LEVELS.index(level) if level in LOG_LEVELS else 0
