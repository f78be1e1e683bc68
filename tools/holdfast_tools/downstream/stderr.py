"""What a child process said on stderr: its last lines, kept for whoever asks why it does not work."""

import logging
import re
from collections import deque
from collections.abc import Iterable

log = logging.getLogger("holdfast.downstream.stderr")

KEPT_LINES = 20
LINE_CHARACTERS = 500
_SECRET_CHARACTERS = 6
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class StderrTail:
    """The last lines of one child. Values of its configured environment are blotted out: they may be secrets."""

    def __init__(self, name: str, secrets: Iterable[str] = ()) -> None:
        self._name = name
        self._secrets = sorted((value for value in secrets if len(value) >= _SECRET_CHARACTERS), key=len, reverse=True)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._partial = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, oldest first, with what came after the last line end."""
        rest = self._clean(self._partial)
        return (*self._lines, rest)[-KEPT_LINES:] if rest else tuple(self._lines)

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        *ended, partial = (self._partial + data.decode(errors="replace")).split("\n")
        self._partial = partial[-8 * LINE_CHARACTERS :]
        for line in ended:
            cleaned = self._clean(line)
            if cleaned:
                self._lines.append(cleaned)
                log.debug("%s: %s", self._name, cleaned)

    def _clean(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        line = _CONTROL.sub("", line).strip()
        return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + "…"
