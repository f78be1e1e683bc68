"""The log level of a session of the handshake era: since 2026-07-28 each request says its own."""

import logging

from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError

from holdfast_tools import sdk
from holdfast_tools.client import severity

log = logging.getLogger("holdfast.downstream")


class LogLevel:
    """What the server `name` was told in one session; it has `timeout_s` to take it."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._level: str | None = None

    async def lower(self, session: ClientSession, level: str | None) -> None:
        """Have messages sent from `level` on, for whoever wants the most of them; None for who said nothing.

        A server that does not declare `logging` is not asked, and one that refuses not again.
        """
        declared = session.server_capabilities
        if level is None or declared is None or declared.logging is None:
            return
        if self._level is not None and severity(self._level) <= severity(level):
            return
        self._level = level
        try:
            await sdk.request(session, "logging/setLevel", {"level": level}, timeout_s=self._timeout_s)
        except MCPError as error:
            log.info("%s: it does not take the log level %s: %s", self._name, level, error.message)
