"""What `holdfast serve` costs before its first byte, and what it leaves to the full command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_server import shim

COSTLY = ("argparse", "asyncio", "dataclasses", "inspect", "logging", "subprocess", "typing", "importlib.metadata")


def test_the_shim_imports_the_standard_library_alone_and_nothing_costly_of_it() -> None:
    script = "import sys; import holdfast_server.shim; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = ran.stdout.split()
    assert [name for name in COSTLY if name in loaded] == []
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"__main__"}
    assert foreign <= {"holdfast_server", "holdfast_store"}


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["c.yaml"], (Path("c.yaml"), None)),
        (["c.yaml", "--as", "ann"], (Path("c.yaml"), "ann")),
        (["--as=ann", "c.yaml"], (Path("c.yaml"), "ann")),
        ([], None),
        ([""], None),
        (["--help"], None),
        (["c.yaml", "--http", "127.0.0.1:0"], None),
        (["c.yaml", "--in-process"], None),
        (["c.yaml", "other.yaml"], None),
        (["c.yaml", "--as"], None),
        (["c.yaml", "--as="], None),
        (["--", "c.yaml"], None),
    ],
)
def test_plain_serve_is_the_shims_and_all_else_goes_to_the_full_parser(
    arguments: list[str], asked: tuple[Path, str | None] | None
) -> None:
    assert shim.parse(arguments) == asked
