"""Structured logs on stderr: one line per event, ``key=value``, so that people read and programs parse them."""

import json
import logging
import sys
import time
from typing import Any, TextIO

_PLAIN = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__.keys() | {"message", "asctime", "taskName", "color_message"}
)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and not any(c in text for c in ' "=\n') else json.dumps(text)


class KeyValueFormatter(logging.Formatter):
    """`time level logger message key=value ...`; every `extra` becomes a pair; times are UTC."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        pairs = "".join(f" {k}={_value(v)}" for k, v in record.__dict__.items() if k not in _PLAIN)
        line = f"{stamp} {record.levelname.lower()} {record.name} {_value(record.getMessage())}{pairs}"
        if record.exc_info:
            line += f" exception={_value(self.formatException(record.exc_info))}"
        return line


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at that moment: it may be replaced while the process lives."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """`StreamHandler` sets it once; what it sets is not used."""


def configure(level: str = "info") -> None:
    """Send the logs of this process to stderr, at `level` and above."""
    handler = _Stderr()
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx2", "httpcore2", "uvicorn.access", "mcp", "asyncio", "aiosqlite", "client"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
