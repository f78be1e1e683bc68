"""How two runs of the suite are compared, and what makes a run pass."""

import json
from pathlib import Path

from conformance.checks import (
    ABSENT,
    FAILURE,
    SUCCESS,
    Check,
    Key,
    Results,
    Tally,
    checks,
    compare,
    read_results,
    scenarios,
)
from conformance.legs import DIRECT, THROUGH
from conformance.report import Outcome, Plan, Report
from conformance.suite import LOCKED, Requirements

PING = Key("2025-11-25", "ping")
TASKS = Key("2026-07-28", "tasks-lifecycle")
POLLING = Key("2025-11-25", "server-sse-polling")


def check(status: str, identity: str = "ping", name: str = "Ping", message: str = "") -> Check:
    return Check(identity, name, status, message)


def report(direct: Results, through: Results) -> Report:
    plan = Plan.of({"2025-11-25": Requirements((PING,), (POLLING,))}, (TASKS,), frozenset())
    return Report({}, plan, [Outcome(DIRECT, plan.all, direct), Outcome(THROUGH, plan.all, through)])


GOOD = {PING: (check(SUCCESS),), TASKS: (check(SUCCESS),), POLLING: (check("WARNING"),)}


def test_equal_runs_have_no_difference() -> None:
    assert compare(GOOD, GOOD, GOOD) == []
    assert report(GOOD, GOOD).passed


def test_a_check_that_fails_through_holdfast_is_a_difference_with_its_message() -> None:
    worse = GOOD | {PING: (check(FAILURE, message="no answer"),)}
    (difference,) = compare(GOOD, worse, GOOD)
    assert (difference.key, difference.direct, difference.through) == (PING, SUCCESS, FAILURE)
    assert difference.message == "no answer"
    assert not report(GOOD, worse).passed


def test_an_unscored_check_that_ends_better_is_a_difference_too() -> None:
    assert not report(GOOD, GOOD | {POLLING: (check(SUCCESS),)}).passed


def test_a_check_that_was_not_made_is_absent() -> None:
    (difference,) = compare(GOOD, GOOD | {PING: ()}, GOOD)
    assert difference.through == ABSENT


def test_a_check_that_was_made_only_through_holdfast_is_a_difference() -> None:
    more = GOOD | {PING: (check(SUCCESS), check(FAILURE, "wire-schema-valid", "WireSchemaValid"))}
    (difference,) = compare(GOOD, more, GOOD)
    assert (difference.direct, difference.through) == (ABSENT, FAILURE)


def test_checks_with_one_id_are_told_apart_by_name_and_then_by_order() -> None:
    direct = {PING: (check(SUCCESS, name="A"), check(SUCCESS, name="B"), check(SUCCESS, name="B"))}
    through = {PING: (check(SUCCESS, name="B"), check(FAILURE, name="B"), check(SUCCESS, name="A"))}
    (difference,) = compare(direct, through, [PING])
    assert difference.check == "ping (B)"


def test_a_run_whose_direct_leg_fails_does_not_pass_though_nothing_differs() -> None:
    bad = GOOD | {PING: (check(FAILURE),)}
    assert report(bad, bad).direct_failures() == [PING]
    assert not report(bad, bad).passed


def test_a_scenario_without_a_result_does_not_pass() -> None:
    missing = {key: found for key, found in GOOD.items() if key != TASKS}
    assert not report(missing, missing).passed
    assert scenarios(missing, GOOD) == Tally(2, 3)


def test_only_checks_that_can_fail_are_counted() -> None:
    assert checks(GOOD, GOOD) == Tally(2, 2)


def test_one_scenario_can_be_chosen_at_every_revision_that_has_it() -> None:
    modern = Key("2026-07-28", "ping")
    requirements = {"2026-07-28": Requirements((modern, TASKS), ()), "2025-11-25": Requirements((PING,), (POLLING,))}
    assert Plan.of(requirements, (), frozenset({"ping"})).all == (modern, PING)


def test_results_are_read_by_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "server-tools-list-2026-01-02T03-04-05-678Z"
    folder.mkdir()
    found = [{"id": "tools-list", "name": "ToolsList", "status": SUCCESS}]
    (folder / "checks.json").write_text(json.dumps(found))
    assert read_results(tmp_path, "2026-07-28") == {
        Key("2026-07-28", "tools-list"): (Check("tools-list", "ToolsList", SUCCESS),)
    }


def test_the_lock_pins_every_package_by_its_digest_and_names_no_registry() -> None:
    locked = json.loads((LOCKED / "package-lock.json").read_text())["packages"]
    packages = [package for name, package in locked.items() if name]
    assert packages
    assert all("integrity" in package and "resolved" not in package for package in packages)
