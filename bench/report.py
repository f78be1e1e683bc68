"""What was measured, as tables for people and as one JSON object for programs."""

import itertools
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from bench.commits import CommitRates
from bench.load import READ, WRITE, Key, Level, Series
from rich.console import Console
from rich.table import Table

NAMES = {READ: "read-only tool", WRITE: "write tool"}


def as_json(
    names: Sequence[str],
    results: Mapping[Key, Series],
    startup: Mapping[str, float] | None,
    commits: CommitRates | None,
) -> dict[str, Any]:
    """Milliseconds, calls per second, and `x_direct` and `x_thin`: the ratio of the p50 to those contenders'."""
    rows = []
    for (name, kind, level), series in results.items():
        rows.append(
            {
                "contender": name,
                "kind": kind,
                "transport": level.transport,
                "protocol": level.era,
                "in_flight": level.in_flight,
                "calls": len(series.latencies_s),
                "p50_ms": round(series.percentile_ms(50), 3),
                "p99_ms": round(series.percentile_ms(99), 3),
                "calls_per_s": round(series.calls_per_s, 1),
                "cpu_ms_per_call": _cpu_ms(name, level, series),
                "x_direct": _ratio(series, results.get(("direct", kind, level))),
                "x_thin": _ratio(series, results.get(("thin", kind, level))),
            }
        )
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "sqlite": sqlite3.sqlite_version,
        },
        "versions": {package: version(package) for package in ("holdfast", "mcp", "fastmcp")},
        "contenders": list(names),
        "calls": rows,
        "startup_ms": startup and {name: round(value, 1) for name, value in startup.items()},
        "commits_per_s": commits and commits.as_json(),
    }


def _cpu_ms(name: str, level: Level, series: Series) -> float | None:
    """None where the gateway is not the one process that is looked at: on stdio others run in each client's own."""
    known = name != "direct" and (level.transport == "HTTP" or name == "holdfast")
    return round(series.cpu_ms_per_call, 3) if known else None


def _ratio(series: Series, other: Series | None) -> float | None:
    return round(series.percentile_ms(50) / other.percentile_ms(50), 2) if other else None


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print `report`, the value of `as_json`, as tables."""
    machine, versions = report["machine"], report["versions"]
    console.print(
        f"Python {machine['python']}, {machine['system']}, SQLite {machine['sqlite']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )
    ways = dict.fromkeys((row["transport"], row["protocol"]) for row in report["calls"])
    for (transport, protocol), kind in itertools.product(ways, (READ, WRITE)):
        rows = [
            row
            for row in report["calls"]
            if (row["transport"], row["protocol"], row["kind"]) == (transport, protocol, kind)
        ]
        console.print(_calls(rows, report["contenders"], f"{NAMES[kind]}, {transport}, protocol {protocol}"))
    if report["startup_ms"]:
        table = Table(
            "started", "ms, median", title="from start to the first tools/list, on stdio", title_justify="left"
        )
        for name, milliseconds in report["startup_ms"].items():
            table.add_row(name, f"{milliseconds:.0f}")
        console.print(table)
    if report["commits_per_s"]:
        table = Table("commits", "per second", title="the store against raw SQLite, synced", title_justify="left")
        for name, rate in report["commits_per_s"].items():
            table.add_row(name, f"{rate:,.0f}")
        console.print(table)


def _calls(unordered: Sequence[Mapping[str, Any]], contenders: Sequence[str], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("in flight", justify="right")
    table.add_column("contender")
    for heading in ("p50 ms", "p99 ms", "calls/s", "gateway CPU ms/call", "p50 / direct", "p50 / thin"):
        table.add_column(heading, justify="right")
    rows = sorted(unordered, key=lambda row: (row["in_flight"], contenders.index(row["contender"])))
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before["in_flight"] != row["in_flight"]:
            table.add_section()
        table.add_row(
            str(row["in_flight"]),
            row["contender"],
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['calls_per_s']:,.0f}",
            f"{row['cpu_ms_per_call']:.2f}" if row["cpu_ms_per_call"] is not None else "",
            _times(row["x_direct"]),
            _times(row["x_thin"]),
        )
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
