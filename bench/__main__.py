"""`make bench`: Holdfast beside a direct call, the thinnest gateway and FastMCP's proxy, in one run.

python -m bench [--quick] [--json] [--only NAME ...]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import anyio
from bench.commits import measure_commits
from bench.contenders import all_contenders, holdfast_config
from bench.journal import CALLS as PAST_CALLS
from bench.journal import measure_journal
from bench.load import Plan, measure
from bench.parked import CALLS, measure_parked
from bench.report import as_json, show
from bench.startup import measure_startup
from rich.console import Console

GATEWAYS = ("thin", "holdfast", "fastmcp")
FULL = Plan(rounds=6, burst_s=0.8, warm_up_s=0.15)
QUICK = Plan(rounds=1, burst_s=0.4, warm_up_s=0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the time: to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, tables on stderr")
    parser.add_argument("--only", nargs="+", choices=GATEWAYS, default=GATEWAYS, help="these gateways alone")
    options = parser.parse_args()
    console = Console(stderr=options.json, width=110)
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="hf-bench-") as name:
        folder = Path(name)
        with all_contenders(folder, options.only) as contenders:
            names = ", ".join(contender.name for contender in contenders)

            def progress(done: int, rounds: int) -> None:
                console.print(f"calls, round {done + 1} of {rounds}: {names} ...")

            results = anyio.run(measure, contenders, plan, progress)
            startup = commits = parked = journal = None
            if "holdfast" in options.only:
                console.print("starts on stdio ...")
                place = folder / "startup"
                place.mkdir()
                startup = measure_startup(place, holdfast_config(place, contenders[0].url), 3 if options.quick else 10)
                place = folder / "journal"
                place.mkdir()
                calls = PAST_CALLS // 50 if options.quick else PAST_CALLS
                journal = measure_journal(place, contenders[0].url, calls, console.print)
        if "holdfast" in options.only:
            console.print("commits ...")
            commits = anyio.run(measure_commits, folder, 2_000 if options.quick else 20_000)
            console.print("parked calls ...")
            place = folder / "parked"
            place.mkdir()
            parked = measure_parked(place, CALLS // 10 if options.quick else CALLS)
        report = as_json(["direct", *options.only], results, startup, commits)
    show(report, console)
    if parked is not None:
        report["parked"] = parked.as_json()
        console.print(parked.text())
    if journal is not None:
        report["journal"] = journal.as_json()
        console.print(journal.text())
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
