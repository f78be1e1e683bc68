"""What tests install for themselves: once per lock, never half, and with a sentence where it cannot be."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import npm, once
from support.once import InstallError, installed_once

DEADLINE_S = 20.0


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock, and a `build` folder of one's own."""
    monkeypatch.setattr(once, "BUILD", tmp_path / "build")
    lock = tmp_path / "package-lock.json"
    lock.write_text("{}")
    (tmp_path / "package.json").write_text("{}")
    return lock


def test_two_at_once_install_once_and_both_find_it_complete(pins: Path) -> None:
    both_here = threading.Barrier(2, timeout=DEADLINE_S)
    installs: list[Path] = []

    def install(folder: Path) -> None:
        installs.append(folder)
        (folder / "package").write_text("complete")

    def ask() -> str:
        both_here.wait()
        return (installed_once("some", [pins], install) / "package").read_text()

    with ThreadPoolExecutor(2) as pool:
        found = [asked.result(DEADLINE_S) for asked in (pool.submit(ask), pool.submit(ask))]
    assert found == ["complete", "complete"]
    assert len(installs) == 1


def test_a_changed_lock_installs_again_and_a_failed_install_is_tried_again(pins: Path) -> None:
    installs: list[Path] = []

    def fail(folder: Path) -> None:
        installs.append(folder)
        raise InstallError("no network")

    with pytest.raises(InstallError, match="no network"):
        installed_once("some", [pins], fail)
    installed_once("some", [pins], installs.append)
    installed_once("some", [pins], installs.append)
    assert len(installs) == 2
    pins.write_text('{"changed": true}')
    installed_once("some", [pins], installs.append)
    assert len(installs) == 3


def test_without_npm_the_error_says_what_to_install(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InstallError, match=r"install Node\.js 20 or newer with npm"):
        npm.installed(pins.parent, "some")


def test_an_installer_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="no such package"):
        once.run_installer(["sh", "-c", "echo no such package >&2; exit 1"], tmp_path)
