"""What ends the children of a process that died: the program on its own, and how it is told of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.processes import alive, wait_until
from watching import DEADLINE_S

from holdfast_tools.downstream import child
from holdfast_tools.downstream.child import Child
from holdfast_tools.downstream.reaper import PROGRAM, VARIABLE, Reaper

STUBBORN = 'trap "" TERM; sleep 600 & echo $! >"$0"; wait; wait; wait'

Group = Callable[..., tuple[int, int]]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """Starts a shell that leads a group of its own, with a `sleep` in it; the pids of both."""
    leaders: list[subprocess.Popen[bytes]] = []

    def start(script: str = 'sleep 600 & echo $! >"$0"; wait', **variables: str) -> tuple[int, int]:
        noted = tmp_path / f"sleep-{len(leaders)}"
        environment = {"PATH": os.environ["PATH"], **variables}
        leaders.append(subprocess.Popen(["sh", "-c", script, str(noted)], env=environment, start_new_session=True))
        wait_until(lambda: noted.exists() and noted.read_text().endswith("\n"), DEADLINE_S, "the sleep")
        return leaders[-1].pid, int(noted.read_text())

    yield start
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(DEADLINE_S)


def program(closing_grace_s: float = 0.1, term_grace_s: float = 0.1) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-I", "-S", PROGRAM, str(closing_grace_s), str(term_grace_s))
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def after(told: str, process: subprocess.Popen[bytes]) -> None:
    """Tell it this, close the pipe, and wait until it has done its work."""
    process.communicate(told.encode(), timeout=DEADLINE_S)
    assert process.returncode == 0


def gone(*pids: int) -> bool:
    return not any(alive(pid) for pid in pids)


def test_the_groups_it_was_told_of_are_ended_with_all_that_is_in_them_and_no_other(group: Group) -> None:
    first, second, other = group(), group(), group()
    after(f"spawning a\nrunning a {first[0]}\nspawning b\nrunning b {second[0]}\n", program())
    wait_until(lambda: gone(*first, *second), DEADLINE_S, "the end of both groups")
    assert all(alive(pid) for pid in other)


def test_a_group_that_ignores_sigterm_is_killed(group: Group) -> None:
    stubborn = group(STUBBORN)
    after(f"running a {stubborn[0]}\n", program())
    wait_until(lambda: gone(*stubborn), DEADLINE_S, "the end of the group")


def test_a_group_that_is_over_is_left_alone(group: Group) -> None:
    recycled = group()
    after(f"spawning a\nrunning a {recycled[0]}\nover a\n", program())
    assert all(alive(pid) for pid in recycled)


def test_a_group_that_leaves_by_itself_is_not_waited_for(group: Group) -> None:
    leader, sleep = group()
    process = program(closing_grace_s=600)
    os.killpg(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    after(f"running a {leader}\n", process)
    wait_until(lambda: gone(leader, sleep), DEADLINE_S, "the end of the group")


@pytest.mark.skipif(not Path("/proc").exists(), reason="a child without a name is found in /proc only")
def test_a_child_that_was_being_started_is_found_by_its_token(group: Group) -> None:
    unnamed, other = group(**{VARIABLE: "token-1"}), group(**{VARIABLE: "token-2"})
    after("spawning token-1\n", program())
    wait_until(lambda: gone(*unnamed), DEADLINE_S, "the end of the group")
    assert all(alive(pid) for pid in other)


def test_neither_sigterm_nor_sigint_nor_sighup_keep_it_from_its_work(group: Group) -> None:
    members = group()
    process = program()
    assert process.stdin is not None
    process.stdin.write(f"spawning x\nover x\nrunning a {members[0]}\n".encode())
    process.stdin.flush()
    ignored = "SigIgn:\t"
    wanted = sum(1 << (number - 1) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))

    def deaf() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split(ignored)[1].split()[0], 16) & wanted == wanted

    wait_until(deaf, DEADLINE_S, "a reaper that ignores signals")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    after("", process)
    wait_until(lambda: gone(*members), DEADLINE_S, "the end of the group")


def test_a_reaper_that_died_is_replaced_and_told_everything_again(group: Group) -> None:
    members, late = group(), group()
    reaper = Reaper(0.1, 0.1)
    reaper.running(reaper.spawning(), members[0])
    first = reaper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first), DEADLINE_S, "the end of the reaper")
    reaper.running(reaper.spawning(), late[0])
    assert reaper.pid != first
    process = reaper._process
    assert process is not None
    after("", process)
    wait_until(lambda: gone(*members, *late), DEADLINE_S, "the end of both groups")


async def test_a_child_is_told_to_the_reaper_for_as_long_as_anything_of_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    class Noting(Reaper):
        def _tell(self, line: str) -> None:
            told.append(line)

    monkeypatch.setattr(child, "REAPER", Noting(1, 1))
    started = Child(lambda data: None, lambda data: None, lambda: None)
    await started.start(("sleep", "600"), {"PATH": os.environ["PATH"]}, None)
    token = told[0].removeprefix("spawning ")
    assert told == [f"spawning {token}", f"running {token} {started.pid}"]
    await started.end()
    assert told[2:] == [f"over {token}"]
    with pytest.raises(FileNotFoundError):
        await Child(lambda data: None, lambda data: None, lambda: None).start(("no-such-command",), {}, None)
    assert [line.split()[0] for line in told[3:]] == ["spawning", "over"]
