"""One owner per store and per config."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.processes import wait_until

from holdfast_server.engine.lock import Owner, OwnerLock, is_held, owner_of, start_lock
from holdfast_store.model.errors import EngineError

HOLDER = """
import sys
from pathlib import Path
from holdfast_server.engine.lock import Owner, OwnerLock
lock = OwnerLock(Path(sys.argv[1]), Owner.this_process(Path(sys.argv[2]), "detached"))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.yaml"


def lock_for(path: Path, config: Path) -> OwnerLock:
    return OwnerLock(path, Owner.this_process(config, "http"))


def test_the_owner_is_named_in_the_file_while_it_holds_the_lock(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "state.db.lock"
    lock = lock_for(path, config)
    assert not lock.held()
    with lock:
        assert lock.held()
        assert is_held(path)
        written = json.loads(path.read_text())
        assert written["pid"] == os.getpid()
        assert written["config"] == str(config)
        assert written["mode"] == "http"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", written["started_at"])
        assert path.stat().st_mode & 0o777 == 0o600
    assert not lock.held()
    assert not is_held(path)
    assert owner_of(path) is None


def test_another_configs_engine_is_named_at_once_whatever_the_wait(tmp_path: Path, config: Path) -> None:
    other = tmp_path / "other.yaml"
    with (
        lock_for(tmp_path / "state.db.lock", other),
        pytest.raises(EngineError, match=rf"state\.db is in use by process {os.getpid()}.*http engine of {other}"),
    ):
        lock_for(tmp_path / "state.db.lock", config).acquire(wait_s=60)


def test_the_same_configs_engine_is_waited_for(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "engine.lock"
    first, second = lock_for(path, config), lock_for(path, config)
    first.acquire()
    with pytest.raises(EngineError, match="is running already"):
        second.acquire(wait_s=0)
    waiting = threading.Thread(target=second.acquire, args=(20,))
    waiting.start()
    first.release()
    waiting.join(20)
    assert second.held()
    second.release()


def test_a_killed_owner_frees_the_lock_at_once(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "engine.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(path)
        holder.kill()
        holder.wait(10)
    assert not is_held(path)
    with lock_for(path, config):
        owner = owner_of(path)
    assert owner is not None
    assert owner.pid == os.getpid()


def test_a_lock_file_that_was_removed_locks_nobody_out_and_nobody_twice(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "engine.lock"
    with lock_for(path, config):
        path.unlink()
        with lock_for(path, config):
            assert is_held(path)


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path, config: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "engine.lock").symlink_to("target")
    with pytest.raises(EngineError, match="cannot open the lock"):
        lock_for(tmp_path / "engine.lock", config).acquire()
    assert (tmp_path / "target").read_text() == "precious"


def test_one_start_waits_for_another_and_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "start.lock"
    order: list[str] = []

    def second() -> None:
        with start_lock(path, 20):
            order.append("second")

    with start_lock(path, 1):
        with pytest.raises(EngineError, match="another start"), start_lock(path, 0.05):
            pass
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join(20)
    wait_until(lambda: order == ["first", "second"], 1, "the order")
