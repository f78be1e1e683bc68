"""The demo is a test of its own: every line that it prints is checked, and so is what it leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import with_environment

ROOT = Path(__file__).resolve().parents[2]
PROMISED_S = 60.0


@pytest.mark.timeout(180)
def test_every_line_of_the_demo_is_so_and_nothing_is_left_running(tmp_path: Path) -> None:
    marked = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        env=marked,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PROMISED_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it is so." in done.stdout
    assert with_environment("TMPDIR", str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
