"""What commands print: JSON, tables that fit 80 columns, and times people can read."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

UNBOUNDED = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column. A `kept` one is never wrapped or cut, whatever the width; the others fold."""

    title: str
    kept: bool = False
    justify: Literal["left", "right"] = "left"


def print_json(data: Any) -> None:
    """`data` as JSON for programs."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def one_line(data: Any) -> str:
    """`data` as compact JSON on one line."""
    return json.dumps(data, ensure_ascii=False, separators=(", ", ": "))


def printable(text: str) -> str:
    """`text` without control characters: what a tool or a model wrote must not move the terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def width() -> int:
    """The columns there are; without a terminal there is no edge, so that lines can be searched whole."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(40, shutil.get_terminal_size().columns)
    return UNBOUNDED


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], columns_wide: int | None = None) -> str:
    """The rows under their titles. Only text; colours belong to nobody's log."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        drawn.add_column(column.title.upper(), no_wrap=column.kept, overflow="fold", justify=column.justify)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(
        width=columns_wide or width(), force_terminal=colours, no_color=not colours, highlight=False, emoji=False
    )
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, one pair a line, the values aligned; further lines of a value are indented with it."""
    shown = [(name, value) for name, value in pairs if value]
    edge = max((len(name) for name, _ in shown), default=0) + 2
    lines = []
    for name, value in shown:
        first, *others = printable(value).splitlines() or [""]
        lines.append(f"{name:<{edge}}{first}")
        lines.extend(f"{'':<{edge}}{other}" for other in others)
    return "\n".join(lines)


def span(span_s: float) -> str:
    """A length of time in its largest whole unit: `45s`, `12m`, `3h`, `5d`."""
    span_s = abs(span_s)
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if span_s >= 2 * unit_s or (unit != "m" and span_s >= unit_s and span_s % unit_s == 0):
            return f"{int(span_s // unit_s)}{unit}"
    return f"{int(span_s)}s"


def seconds_of(moment: str) -> float:
    """Seconds since the epoch of an ISO 8601 time."""
    return datetime.fromisoformat(moment).timestamp()


def age(moment: str | None, now: float | None = None) -> str:
    """How long ago `moment` was, for a table."""
    return span((time.time() if now is None else now) - seconds_of(moment)) if moment else ""


def moment_words(moment: str | None, now: float | None = None) -> str:
    """A time both ways: `2026-11-22 10:28:03 UTC (3m ago)`."""
    if not moment:
        return ""
    at = seconds_of(moment)
    away_s = at - (time.time() if now is None else now)
    relative = f"in {span(away_s)}" if away_s > 0 else f"{span(away_s)} ago"
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC ({relative})"
