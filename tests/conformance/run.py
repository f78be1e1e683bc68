"""`make conformance`: the official suite against the fixture, directly and through Holdfast, compared check by check.

    python tests/conformance/run.py [--direct-only] [--scenario NAME ...] [--json]

Directly the fixture must pass everything. Through Holdfast, with validation, policy and journal on, no check may end
differently: neither of what 2026-07-28 and 2025-11-25 require, nor of what the suite runs besides, nor of the tasks
extension, whether the downstream serves tasks itself or not. Exit code 1 where that is not so, 2 where the suite
cannot be installed.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.checks import Check, Key
from conformance.legs import DIRECT, THROUGH, WITHOUT_TASKS, Leg, started
from conformance.report import Outcome, Plan, Report
from conformance.suite import REVISIONS, Suite, SuiteError

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


def run_leg(suite: Suite, leg: Leg, wanted: tuple[Key, ...], *, whole: bool) -> Outcome:
    """Run the scenarios `wanted` of a leg: revision by revision where they are the `whole` plan, else one by one."""
    results: dict[Key, tuple[Check, ...]] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="hf-suite-") as folder, started(leg) as (processes, url):
            if whole:
                for revision in REVISIONS:
                    results |= suite.run_revision(processes, url, revision, Path(folder))
            else:
                for key in wanted:
                    results |= suite.run_scenario(processes, url, key, Path(folder))
    except (TimeoutError, SuiteError) as error:
        return Outcome(leg, wanted, results, str(error))
    return Outcome(leg, wanted, results)


def run(suite: Suite, *, direct_only: bool, only: frozenset[str]) -> Report:
    tasks = suite.tasks()
    plan = Plan.of({revision: suite.requirements(revision) for revision in REVISIONS}, tasks, only)
    unknown = only - {key.scenario for key in plan.all}
    if unknown:
        raise SuiteError(f"no scenario is named {', '.join(sorted(unknown))}")
    whole = not only
    outcomes = []
    for leg in (DIRECT,) if direct_only else (DIRECT, THROUGH, WITHOUT_TASKS):
        wanted = plan.all if leg.fixture_has_tasks else plan.groups.get("tasks extension", ())
        if wanted:
            print(f"{leg.name}: {len(wanted)} scenarios", file=sys.stderr)
            outcomes.append(run_leg(suite, leg, wanted, whole=whole and leg.fixture_has_tasks))
    return Report(suite.versions(), plan, outcomes)


def stop(signal_number: int, frame: FrameType | None) -> None:
    """On SIGTERM as on Ctrl-C: every process that was started ends first."""
    sys.exit(TERMINATED)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the official MCP conformance suite, directly and through Holdfast."
    )
    parser.add_argument("--direct-only", action="store_true", help="run it against the fixture alone")
    parser.add_argument("--scenario", metavar="NAME", nargs="+", default=(), help="run only these scenarios")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        report = run(Suite.install(), direct_only=options.direct_only, only=frozenset(options.scenario))
    except SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    print(json.dumps(report.as_json(), indent=2) if options.json else report.as_text())
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
