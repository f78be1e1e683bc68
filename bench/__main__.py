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
from bench.load import Plan, measure
from bench.parked import CALLS, measure_parked
from bench.report import as_json, show
from bench.startup import measure_startup
from rich.console import Console

GATEWAYS = ("thin", "holdfast", "fastmcp")
FULL = Plan(rounds=8, burst_s=1.0, warm_up_s=0.2)
QUICK = Plan(rounds=2, burst_s=0.5, warm_up_s=0.1)


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
            console.print(f"calls over HTTP: {', '.join(contender.name for contender in contenders)} ...")
            results = anyio.run(measure, contenders, plan)
            startup = commits = parked = None
            if "holdfast" in options.only:
                console.print("starts on stdio ...")
                place = folder / "startup"
                place.mkdir()
                url = contenders[0].url
                startup = measure_startup(place, url, holdfast_config(place, url), 3 if options.quick else 10)
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
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
