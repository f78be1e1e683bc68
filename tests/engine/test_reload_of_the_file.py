"""When and how the file is taken: by command, by signal, all of it or nothing."""

import asyncio
import json
import os
import signal

import anyio
import pytest
from reloading import DEADLINE_S, POLL_S, START_S, Reloadable, names, until
from support.processes import Processes
from support.workspace import HOLDFAST, Workspace

from holdfast_server.config import load
from holdfast_server.engine.engine import Engine
from holdfast_server.engine.hello import config_digest, variable_digests
from holdfast_server.engine.paths import state_paths
from holdfast_store.model.errors import ConfigError

BAD = "mcpServers: {}\npreset: lenient\n"
PASSING = ("connections", "tasks", "resident_bytes", "descriptors")


@pytest.fixture
def engine(workspace: Workspace, processes: Processes) -> Reloadable:
    return Reloadable(workspace, processes)


async def tools_become(engine: Reloadable, downstreams: set[str]) -> None:
    """Wait until the engine has exactly these downstreams."""
    with anyio.fail_after(DEADLINE_S):
        while {found["name"] for found in (await engine.status())["downstreams"]} != downstreams:
            await anyio.sleep(POLL_S)


async def test_a_bad_file_changes_nothing(engine: Reloadable) -> None:
    engine.serve_http()
    async with engine.over_http() as client:
        before = await engine.status()
        seen = await names(client)
        engine.workspace.config.write_text(BAD)
        with pytest.raises(ConfigError, match=r"holdfast\.yaml:2: .*lenient"):
            await engine.reload()
        after = await engine.status()
        assert await names(client) == seen
        assert (await client.call_tool("ledger__write", {"n": 1})).is_error is False
    for status in (before, after):
        for passing in PASSING:
            status["engine"].pop(passing, None)
    for part in ("engine", "downstreams", "tools"):
        assert after[part] == before[part]
    assert any("the last reload changed nothing" in warning for warning in after["warnings"])


@pytest.mark.parametrize("mode", ["http", "detached"])
async def test_a_hangup_signal_reloads(engine: Reloadable, mode: str) -> None:
    if mode == "http":
        engine.serve_http()
    else:
        engine.write()
    pid = await engine.pid()
    engine.write(mcpServers={"renamed": engine.workspace.ledger_downstream()})
    await engine.hang_up()
    await tools_become(engine, {"renamed"})
    assert await engine.pid() == pid


async def test_a_hangup_signal_reloads_an_engine_on_its_own_stdio(engine: Reloadable) -> None:
    path = engine.write()
    process = await asyncio.create_subprocess_exec(
        str(HOLDFAST),
        *("serve", str(path), "--in-process"),
        env=engine.workspace.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        locks = engine.workspace.state_home
        await until(lambda: any(locks.glob("holdfast/*/engine.sock")), "the engine")
        assert await engine.pid() == process.pid
        engine.write(mcpServers={"renamed": engine.workspace.ledger_downstream()})
        await engine.hang_up()
        await tools_become(engine, {"renamed"})
    finally:
        process.stdin.close()
        async with asyncio.timeout(START_S):
            assert await process.wait() == 0


async def test_a_bad_file_at_a_signal_is_logged_and_warned_of_until_a_good_one(engine: Reloadable) -> None:
    engine.serve_http()
    assert engine.running is not None
    good = engine.workspace.config.read_text()
    engine.workspace.config.write_text(BAD)
    await engine.hang_up()
    await anyio.to_thread.run_sync(engine.running.wait_for, r"the config is not reloaded.*holdfast\.yaml:2", DEADLINE_S)
    assert any("changed nothing" in warning for warning in (await engine.status())["warnings"])
    engine.workspace.config.write_text(good)
    await engine.reload()
    assert not any("changed nothing" in warning for warning in (await engine.status())["warnings"])


async def test_a_storm_of_signals_is_a_few_reloads(engine: Reloadable) -> None:
    engine.serve_http()
    assert engine.running is not None
    pid = await engine.pid()
    engine.write(inline_wait="5s", rules=[{"id": "last", "effect": "deny", "match": {"tool": "ledger__fail"}}])
    for _ in range(300):
        os.kill(pid, signal.SIGHUP)
    await anyio.to_thread.run_sync(engine.running.wait_for, "the config is reloaded", DEADLINE_S)
    assert (await engine.reload())["changed"] is False
    assert engine.running.stderr.count("the config is reloaded") < 100
    assert await engine.pid() == pid


async def test_reloads_at_once_come_one_after_the_other(engine: Reloadable) -> None:
    engine.serve_http()
    ledger = engine.workspace.ledger_downstream()
    engine.write(mcpServers={"ledger": ledger, "second": ledger})
    answers = []

    async def reload() -> None:
        answers.append(await engine.reload())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(reload)
    assert sorted(answer["downstreams"]["added"] for answer in answers) == [[], [], [], [], ["second"]]


async def test_a_client_that_comes_after_a_reload_is_not_warned(engine: Reloadable) -> None:
    engine.write()
    async with engine.over_stdio() as client:
        await names(client)
        engine.write(inline_wait="6s")
        warned = engine.workspace.run("serve", str(engine.workspace.config))
        assert "has changed since the engine read it" in warned.stderr
        assert "config reload" in warned.stderr
        await engine.reload()
        served = engine.workspace.run("serve", str(engine.workspace.config))
        assert (served.returncode, served.stderr) == (0, "")
        assert (await engine.status())["warnings"] == []


async def test_variables_are_those_of_the_engines_own_environment(engine: Reloadable) -> None:
    engine.workspace.environment["NAME"] = "at-the-start"
    rule = {"id": "named", "effect": "deny", "match": {"tool": "ledger__fail"}, "reason": "${NAME}"}
    engine.serve_http(rules=[rule])
    engine.workspace.environment["NAME"] = "afterwards"
    engine.write(rules=[{**rule, "reason": "now ${NAME}"}])
    await engine.reload()
    async with engine.over_http() as client:
        refused = await client.call_tool("ledger__fail", {"n": 1})
    assert "now at-the-start" in json.dumps(refused.model_dump(mode="json"))


async def test_nothing_but_what_was_read_at_once_counts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "anna")
    path = workspace.write_config({"preset": "${NAME_OF_PRESET:-strict}", "mcpServers": {"a": {"command": "${NAME}"}}})
    config, seen = load(path, os.environ), path.read_bytes()
    path.unlink()
    engine = Engine(config, state_paths(path, os.environ), "detached")
    assert engine._hello.config_digest == config_digest(seen)
    assert engine._hello.variables == variable_digests(seen, os.environ)
    assert set(engine._hello.variables) == {"NAME"}


async def test_http_beyond_loopback_keeps_its_principals(engine: Reloadable, processes: Processes) -> None:
    anna = {"id": "anna", "token": "the-token-of-anna-1", "roles": ["approver"]}
    path = engine.write(principals=[anna])
    command = [HOLDFAST, "serve", path, "--http", "0.0.0.0:0"]
    running = processes.start(command, environment=engine.workspace.environment)
    await anyio.to_thread.run_sync(running.wait_for, "url=", START_S)
    engine.write()
    with pytest.raises(ConfigError, match=r"loopback only, not on 0\.0\.0\.0; this needs a restart"):
        await engine.reload()
