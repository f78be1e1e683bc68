"""Where an engine keeps its things, and who may see them."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_server.engine.paths import SOCKET_PATH_BYTES, prepare, private_folder, state_paths
from holdfast_store.model.errors import EngineError

NOBODY = 65_534
needs_root = pytest.mark.xfail(os.geteuid() != 0, reason="only root gives folders away", raises=PermissionError)


def environment(folder: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(folder / "state"), "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def far() -> Iterator[Path]:
    """A folder whose path is too long for a socket in it; that of the folder around it is not."""
    with tempfile.TemporaryDirectory(prefix="hf-") as around:
        folder = Path(around) / ("deep" * 30)
        folder.mkdir()
        yield folder


def test_the_state_folder_is_named_by_the_configs_real_path(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    digits = hashlib.sha256(os.fsencode(os.path.realpath(tmp_path / "real.yaml"))).hexdigest()[:16]
    paths = state_paths(tmp_path / "link.yaml", environment(tmp_path))
    assert paths.folder == tmp_path / "state" / "holdfast" / digits
    assert paths.store == paths.folder / "state.db"
    assert paths.token == paths.folder / "admin.token"


def test_without_a_state_home_it_is_under_the_users_home(tmp_path: Path) -> None:
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "XDG_STATE_HOME": "not/absolute"}):
        assert state_paths(Path("a.yaml"), environ).folder.parent == tmp_path / ".local" / "state" / "holdfast"


def test_naming_the_paths_makes_nothing_and_preparing_makes_a_private_folder(tmp_path: Path) -> None:
    paths = state_paths(tmp_path / "a.yaml", environment(tmp_path))
    assert not (tmp_path / "state").exists()
    assert prepare(tmp_path / "a.yaml", environment(tmp_path)).folder == paths.folder
    assert mode(paths.folder) == 0o700


def test_a_folder_that_was_too_open_is_closed(tmp_path: Path) -> None:
    folder = state_paths(tmp_path / "a.yaml", environment(tmp_path)).folder
    folder.mkdir(parents=True, mode=0o755)
    prepare(tmp_path / "a.yaml", environment(tmp_path))
    assert mode(folder) == 0o700


@needs_root
def test_another_users_folder_is_refused_with_a_mend(tmp_path: Path) -> None:
    folder = state_paths(tmp_path / "a.yaml", environment(tmp_path)).folder
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(EngineError, match=rf"belongs to user {NOBODY}.*XDG_STATE_HOME"):
        prepare(tmp_path / "a.yaml", environment(tmp_path))


def test_a_link_or_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(EngineError, match="is not a folder"):
            private_folder(tmp_path / name, "XDG_STATE_HOME")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(EngineError, match="cannot make the folder"):
        prepare(tmp_path / "a.yaml", environment(tmp_path))


def test_a_socket_path_that_is_too_long_moves_to_the_runtime_folder(far: Path) -> None:
    runtime = far.parent / "run"
    runtime.mkdir()
    environ = {**environment(far), "XDG_RUNTIME_DIR": str(runtime)}
    paths = prepare(far / "a.yaml", environ)
    assert paths.socket.parent == runtime / "holdfast"
    assert mode(paths.socket.parent) == 0o700
    assert len(os.fsencode(paths.socket)) <= SOCKET_PATH_BYTES


def test_two_state_homes_never_share_a_socket_in_the_runtime_folder(far: Path) -> None:
    runtime = far.parent / "run"
    runtime.mkdir()
    sockets = {
        prepare(
            far / "a.yaml", {**environment(far), "XDG_STATE_HOME": str(far / home), "XDG_RUNTIME_DIR": str(runtime)}
        ).socket
        for home in ("one", "two")
    }
    assert len(sockets) == 2


def test_starters_with_different_environments_find_the_same_moved_socket(far: Path) -> None:
    runtime = far.parent / "run"
    runtime.mkdir()
    first = prepare(far / "a.yaml", {**environment(far), "XDG_RUNTIME_DIR": str(runtime)})
    without = {name: value for name, value in environment(far).items() if name != "XDG_RUNTIME_DIR"}
    assert prepare(far / "a.yaml", without).socket == first.socket
    assert state_paths(far / "a.yaml", without).socket == first.socket


def test_without_a_runtime_folder_it_moves_to_a_private_folder_of_the_user(far: Path) -> None:
    without = {name: value for name, value in environment(far).items() if name != "XDG_RUNTIME_DIR"}
    paths = prepare(far / "a.yaml", without)
    assert paths.socket.parent == Path(f"/tmp/holdfast-{os.geteuid()}")
    assert mode(paths.socket.parent) == 0o700


@needs_root
def test_a_runtime_folder_that_is_no_longer_ours_is_left_for_another(far: Path) -> None:
    gone, fresh = far.parent / "old", far.parent / "new"
    gone.mkdir()
    fresh.mkdir()
    first = prepare(far / "a.yaml", {**environment(far), "XDG_RUNTIME_DIR": str(gone)})
    assert first.socket.is_relative_to(gone)
    os.chown(first.socket.parent, NOBODY, NOBODY)
    second = prepare(far / "a.yaml", {**environment(far), "XDG_RUNTIME_DIR": str(fresh)})
    assert second.socket.parent == fresh / "holdfast"
