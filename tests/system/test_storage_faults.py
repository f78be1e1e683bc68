"""Disks that are full, fail, are read-only, or are damaged, under a whole engine with clients at work.

What is refused has no effect, what was acknowledged is there afterwards, the doctor says what to do, and service comes
back by itself where the disk does. The downstream's ledger is the judge.
"""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from asking import KEY, START_S, over_http, over_stdio, record, serve_http, until, words
from mcp import Client
from mcp.shared.exceptions import MCPError
from support.processes import Processes, Running
from support.workspace import HOLDFAST, SUPPORT, Workspace

from holdfast_store.contract import CallFilter
from holdfast_store.open import open_store_for_reading

FAULTY = (sys.executable, str(SUPPORT / "faulty.py"))
LARGEST_FILE_BYTES = 1_200_000
MORE_PAGES = 60
NO_LIMIT_PAGES = 1_000_000
PADDING = "x" * 20_000
CALLS = 400
SLOW, SLOW_MS = 1000, 5000
PAGE_BYTES = 4096
HELLO = (
    json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        }
    )
    + "\n"
)
NOTHING_RAN = "Nothing ran for this request: Holdfast cannot use its store: "

FULL = "the disk is full, or the file has reached its size limit"
FAILED = "the disk failed, or a limit on the size of files is in the way"
HELD = "another process holds its lock"


def store_of(workspace: Workspace) -> Path:
    found = [*workspace.state_home.glob("holdfast/*/state.db"), *workspace.folder.glob("data/calls.db")]
    return found[0]


def start(processes: Processes, workspace: Workspace, *faults: str) -> tuple[Running, str]:
    """`serve --http` in a process with `faults`; the process and its `/mcp`."""
    command = [*FAULTY, *faults, "serve", workspace.config, "--http", "127.0.0.1:0"]
    running = processes.start(command, environment=workspace.environment)
    return running, running.wait_for(r"url=(http://\S+/mcp)", START_S).group(1)


def examined(workspace: Workspace, *faults: str) -> dict[str, list[str]]:
    """What the doctor finds about the store, by level."""
    done = subprocess.run(
        [*FAULTY, *faults, "doctor", str(workspace.config), "--json"],
        env=workspace.environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["ok"], done.stderr
    found: dict[str, list[str]] = {}
    for finding in report["findings"]:
        if finding["about"] in ("store", "engine"):
            found.setdefault(finding["level"], []).append(finding["text"])
    return found


async def write(client: Client, n: int, padding: str = "", delay_ms: int = 0) -> Any:
    arguments = {"n": n, "ref": padding, "delay_ms": delay_ms}
    return await client.call_tool("ledger__write", arguments, meta={KEY: f"effect-{n}"})


async def written_until_refused(client: Client, first: int) -> tuple[dict[int, str], int, str]:
    """Write until the store refuses: the ids of what was done, the number that was refused, and in what words."""
    told: dict[int, str] = {}
    for n in range(first, first + CALLS):
        try:
            result = await write(client, n, PADDING)
        except MCPError as error:
            return told, n, error.error.message
        if record(result)["status"] == "done":
            told[n] = record(result)["id"]
    raise AssertionError(f"{CALLS} calls, and the disk was never full")


async def states(workspace: Workspace) -> dict[int, tuple[str, str]]:
    """Id and state of every stored call of an effect, by its number."""
    store = await open_store_for_reading(f"sqlite://{store_of(workspace)}")
    try:
        page = await store.list_calls(CallFilter(tool="ledger__write"), 10_000)
    finally:
        await store.close()
    return {call.arguments["n"]: (call.id, call.state.value) for call in page.items}


async def nothing_is_lost_or_doubled(workspace: Workspace, told: dict[int, str]) -> None:
    """What clients were told is stored as done; the ledger has each of these effects once, and nothing unknown."""
    stored = await states(workspace)
    assert {n: stored.get(n) for n in told} == {n: (id_, "done") for n, id_ in told.items()}
    effects = [effect.arguments["n"] for effect in workspace.ledger.effects()]
    assert sorted(effects) == sorted(set(effects))
    assert set(told) <= set(effects) <= set(stored)


async def some_history(workspace: Workspace, processes: Processes, calls: int = 10) -> dict[int, str]:
    """The ids of calls of an engine that ended in good order."""
    running, url = serve_http(processes, workspace)
    async with over_http(url) as client:
        told = {n: record(await write(client, n))["id"] for n in range(calls)}
    running.end()
    return told


async def settled(client: Client, call_id: str) -> str:
    """The id of a call, once it is done."""
    result = await client.call_tool("holdfast__wait_task", {"task_id": call_id, "timeout_s": START_S})
    assert record(result)["status"] == "done", words(result)
    return call_id


def begun(workspace: Workspace, n: int) -> bool:
    return any(effect.arguments["n"] == n for effect in workspace.ledger.effects())


# --- a disk that fills up ---------------------------------------------------------------------------------------


def small_files(workspace: Workspace) -> tuple[list[str], Callable[[int], None], str]:
    """A limit on the size of files that the system enforces: the faults, how to lift it, what the store says."""

    def lift(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return ["--file-bytes", str(LARGEST_FILE_BYTES)], lift, FAILED


def few_pages(workspace: Workspace) -> tuple[list[str], Callable[[int], None], str]:
    """The same with a limit on the pages that the database may have, which SQLite takes for a full disk."""
    pages = workspace.folder / "pages"
    database = sqlite3.connect(store_of(workspace))
    pages.write_text(str(database.execute("PRAGMA page_count").fetchone()[0] + MORE_PAGES))
    database.close()

    def lift(pid: int) -> None:
        pages.write_text(str(NO_LIMIT_PAGES))

    return ["--pages", str(pages)], lift, FULL


@pytest.mark.parametrize("fill", [small_files, few_pages])
async def test_a_full_disk_refuses_calls_and_the_same_engine_serves_again_once_there_is_room(
    workspace: Workspace, processes: Processes, era: str, fill: Callable[[Workspace], Any]
) -> None:
    workspace.write_config()
    told = await some_history(workspace, processes)
    faults, make_room, cause = fill(workspace)
    running, url = start(processes, workspace, *faults)
    async with over_http(url, era) as client:
        slow: list[str] = []

        async def begin_slow() -> None:
            slow.append(record(await write(client, SLOW, delay_ms=SLOW_MS))["id"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin_slow)
            await until(lambda: begun(workspace, SLOW), "the slow effect")
            done, refused, message = await written_until_refused(client, 100)
        assert message.startswith(NOTHING_RAN + cause)
        assert str(workspace.folder) not in message
        assert not begun(workspace, refused)

        assert words(await client.call_tool("ledger__read", {"n": 1})) == "read 1"
        found = examined(workspace)
        assert any(cause in text for text in (*found.get("problem", ()), *found.get("warning", ()))), found

        await until(lambda: all(effect.done for effect in workspace.ledger.effects()), "the end of the slow effect")
        make_room(running.pid)
        again = await write(client, refused, PADDING)
        told |= done | {refused: record(again)["id"], SLOW: await settled(client, slow[0])}
        assert "problem" not in examined(workspace)
    assert not running.exited()
    await nothing_is_lost_or_doubled(workspace, told)


async def test_an_engine_that_cannot_write_at_its_start_says_so_and_the_next_one_recovers(
    workspace: Workspace, processes: Processes
) -> None:
    workspace.write_config()
    told = await some_history(workspace, processes)
    running, url = serve_http(processes, workspace)
    with pytest.raises(BaseExceptionGroup):
        await killed_under_a_write(workspace, running, url)
    failed = processes.start(
        [*FAULTY, "--file-bytes", "8192", "serve", workspace.config, "--http", "127.0.0.1:0"],
        environment=workspace.environment,
    )
    assert failed.wait(START_S) == 1
    assert FAILED in failed.stderr
    _, url = serve_http(processes, workspace)
    assert (await states(workspace))[SLOW][1] == "in_doubt"
    await nothing_is_lost_or_doubled(workspace, told)


async def killed_under_a_write(workspace: Workspace, running: Running, url: str) -> None:
    async with over_http(url) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(write, client, SLOW, delay_ms=SLOW_MS))
        await until(lambda: begun(workspace, SLOW), "the slow effect")
        running.kill()


# --- a lock ------------------------------------------------------------------------------------------------------

LOCKER = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.readline()
"""


async def test_a_lock_of_another_process_refuses_calls_names_it_and_is_over_when_it_lets_go(
    workspace: Workspace, processes: Processes, era: str
) -> None:
    workspace.write_config()
    _, url = serve_http(processes, workspace)
    command = [sys.executable, "-c", textwrap.dedent(LOCKER), str(store_of(workspace))]
    async with over_http(url, era) as client:
        told = {1: record(await write(client, 1))["id"]}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
            assert locker.stdout is not None
            assert locker.stdout.readline() == "locked\n"
            with pytest.raises(MCPError) as refused:
                await write(client, 2)
            assert refused.value.error.message.startswith(NOTHING_RAN + HELD)
            assert not begun(workspace, 2)
            problems = examined(workspace)["problem"]
            assert any(f"process {locker.pid} holds the write lock" in text for text in problems), problems
            assert any(f"it is held by process {locker.pid}: stop it" in text for text in problems), problems
            locker.communicate("\n", timeout=START_S)
        told[2] = record(await write(client, 2))["id"]
        assert "problem" not in examined(workspace)
    await nothing_is_lost_or_doubled(workspace, told)


# --- files that may not be written ------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "mode", "mend"), [("calls.db", 0o400, "chmod u+rw"), (".", 0o500, "chmod u+wx")])
async def test_a_store_that_can_only_be_read_refuses_the_start_and_serves_when_that_is_mended(
    workspace: Workspace, processes: Processes, place: str, mode: int, mend: str
) -> None:
    folder = workspace.folder / "data"
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "store": f"sqlite://{folder}/calls.db"})
    told = await some_history(workspace, processes)
    (folder / place).chmod(mode)
    failed = processes.start(
        [*FAULTY, "--powerless", "serve", workspace.config, "--http", "127.0.0.1:0"],
        environment=workspace.environment,
    )
    assert failed.wait(START_S) != 0
    assert f"The store {folder}/calls.db" in failed.stderr
    (advice,) = [text for text in examined(workspace, "--powerless")["problem"] if mend in text]
    subprocess.run(advice[advice.index("chmod") :].split(), check=True)
    _, url = start(processes, workspace, "--powerless")
    async with over_http(url) as client:
        assert record(await write(client, 0))["replayed"]
    assert "problem" not in examined(workspace, "--powerless")
    await nothing_is_lost_or_doubled(workspace, told)


# --- files that were tampered with -------------------------------------------------------------------------------


async def test_flipped_pages_are_found_and_a_restored_backup_serves_again(
    workspace: Workspace, processes: Processes
) -> None:
    workspace.write_config()
    told = await some_history(workspace, processes, calls=60)
    store, backup = store_of(workspace), workspace.folder / "backup.db"
    shutil.copy2(store, backup)
    content = bytearray(store.read_bytes())
    for page in range(2, len(content) // PAGE_BYTES):
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    store.write_bytes(content)

    problems = examined(workspace)["problem"]
    assert any("the file is damaged" in text and "restore a backup" in text for text in problems), problems
    asked = subprocess.run(
        [HOLDFAST, "serve", str(workspace.config)],
        env=workspace.environment,
        input=HELLO,
        capture_output=True,
        text=True,
        timeout=2 * START_S,
        check=False,
    )
    assert asked.returncode == 1
    assert "the file is damaged; stop the engine, keep a copy of the file, then restore a backup" in asked.stderr

    shutil.copy2(backup, store)
    assert "problem" not in examined(workspace)
    async with over_stdio(workspace) as client:
        again = record(await write(client, 7))
        assert (again["id"], again["replayed"]) == (told[7], True)
    await nothing_is_lost_or_doubled(workspace, told)


async def killed_with_a_log(workspace: Workspace, processes: Processes) -> tuple[dict[int, str], Path]:
    """What an engine told before it was killed, and its write-ahead log."""
    running, url = serve_http(processes, workspace)
    async with over_http(url) as client:
        told = {n: record(await write(client, n))["id"] for n in range(20)}
    running.kill()
    store = store_of(workspace)
    log = store.with_name(f"{store.name}-wal")
    assert log.stat().st_size > PAGE_BYTES
    return told, log


async def test_a_log_with_a_torn_end_keeps_every_acknowledged_call(workspace: Workspace, processes: Processes) -> None:
    workspace.write_config()
    told, log = await killed_with_a_log(workspace, processes)
    with log.open("ab") as file:
        file.write(log.read_bytes()[-PAGE_BYTES // 2 :])
    assert "problem" not in examined(workspace)
    _, url = serve_http(processes, workspace)
    async with over_http(url) as client:
        assert record(await write(client, 19)) | {"replayed": True} == record(await write(client, 19))
        told[20] = record(await write(client, 20))["id"]
    await nothing_is_lost_or_doubled(workspace, told)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
async def test_a_log_that_was_cut_short_is_not_taken_for_the_truth(
    workspace: Workspace, processes: Processes, left: float
) -> None:
    workspace.write_config()
    told, log = await killed_with_a_log(workspace, processes)
    whole = log.read_bytes()
    log.write_bytes(whole[: int(len(whole) * left)])
    assert any("has lost acknowledged commits" in text for text in examined(workspace)["problem"])
    failed = processes.start(
        [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0"], environment=workspace.environment
    )
    assert failed.wait(START_S) == 1
    assert "restore a backup" in failed.stderr

    log.write_bytes(whole)
    assert "problem" not in examined(workspace)
    _, url = serve_http(processes, workspace)
    async with over_http(url) as client:
        assert {n: record(await write(client, n))["id"] for n in told} == told
    await nothing_is_lost_or_doubled(workspace, told)


async def test_a_store_in_a_folder_that_is_not_there_yet_is_made_with_it(
    workspace: Workspace, processes: Processes
) -> None:
    downstreams = {"ledger": workspace.ledger_downstream()}
    workspace.write_config({"mcpServers": downstreams, "store": f"sqlite://{workspace.folder}/new/data/calls.db"})
    told = await some_history(workspace, processes, calls=1)
    assert set(told) == {0}
    assert (workspace.folder / "new" / "data" / "calls.db").exists()
