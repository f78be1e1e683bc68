"""A sample of the official suite, as `make check` runs it. All of it: `make conformance`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")

SAMPLE = (
    "tools-call-mixed-content",
    "tools-call-with-progress",
    "tools-call-elicitation",
    "resources-templates-read",
    "prompts-get-with-args",
    "completion-complete",
    "input-required-result-multi-round",
    "tasks-lifecycle",
    "tasks-mrtr-input",
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_check_of_a_sample_ends_differently_through_holdfast() -> None:
    command: list[str | Path] = [sys.executable, RUN, "--json", "--scenario", *SAMPLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {leg["name"] for leg in json.loads(done.stdout)["legs"]} >= {"direct", "through Holdfast"}
