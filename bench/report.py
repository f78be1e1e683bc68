"""What was measured, as tables for people and as one JSON object for programs."""

import platform
import sqlite3
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from bench.commits import CommitRates
from bench.load import READ, WRITE, Key, Series
from rich.console import Console
from rich.table import Table


def as_json(
    names: Sequence[str],
    results: Mapping[Key, Series],
    startup: Mapping[str, float] | None,
    commits: CommitRates | None,
) -> dict[str, Any]:
    """Milliseconds, calls per second, and `x_direct` and `x_thin`: the ratio of the p50 to those contenders'."""
    rows = []
    for (name, kind, in_flight), series in results.items():
        rows.append(
            {
                "contender": name,
                "kind": kind,
                "in_flight": in_flight,
                "calls": len(series.latencies_s),
                "p50_ms": round(series.percentile_ms(50), 3),
                "p99_ms": round(series.percentile_ms(99), 3),
                "calls_per_s": round(series.calls_per_s, 1),
                "cpu_ms_per_call": round(series.cpu_ms_per_call, 3),
                "x_direct": _ratio(series, results.get(("direct", kind, in_flight))),
                "x_thin": _ratio(series, results.get(("thin", kind, in_flight))),
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


def _ratio(series: Series, other: Series | None) -> float | None:
    return round(series.percentile_ms(50) / other.percentile_ms(50), 2) if other else None


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print `report`, the value of `as_json`, as tables."""
    machine, versions = report["machine"], report["versions"]
    console.print(
        f"Python {machine['python']}, {machine['system']}, SQLite {machine['sqlite']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )
    for kind, title in ((READ, "read-only tool"), (WRITE, "write tool")):
        console.print(_calls(report, kind, f"{title}, over HTTP, protocol 2026-07-28"))
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


def _calls(report: Mapping[str, Any], kind: str, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("in flight", justify="right")
    table.add_column("contender")
    for heading in ("p50 ms", "p99 ms", "calls/s", "gateway CPU ms/call", "p50 / direct", "p50 / thin"):
        table.add_column(heading, justify="right")
    rows = sorted(
        (row for row in report["calls"] if row["kind"] == kind),
        key=lambda row: (row["in_flight"], report["contenders"].index(row["contender"])),
    )
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before["in_flight"] != row["in_flight"]:
            table.add_section()
        table.add_row(
            str(row["in_flight"]),
            row["contender"],
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['calls_per_s']:,.0f}",
            f"{row['cpu_ms_per_call']:.2f}" if row["contender"] != "direct" else "",
            _times(row["x_direct"]),
            _times(row["x_thin"]),
        )
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
