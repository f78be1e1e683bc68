"""The stdio shim, with real processes: it finds or starts an engine, and outlives it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_house import HERE, TIMEOUT_S, ClosedError, House
from support.processes import alive, wait_until

RESTARTED = {
    "code": -32000,
    "message": "the engine restarted; the call is kept: see holdfast__list_tasks",
    "data": {"retryable": False},
}


def test_the_first_client_starts_the_engine_and_the_second_finds_it(house: House) -> None:
    first, second = house.shim(), house.shim()
    answers = [shim.ask("echo", 1, text="hi")["result"] for shim in (first, second)]
    assert [answer["params"] for answer in answers] == [{"text": "hi"}, {"text": "hi"}]
    assert {answer["pid"] for answer in answers} == set(house.engines())
    assert len(house.engines()) == 1


def test_ten_shims_that_start_at_once_start_one_engine(house: House) -> None:
    shims = [house.shim("--slow", "0.3") for _ in range(10)]
    answers = [shim.ask("echo", number)["result"]["pid"] for number, shim in enumerate(shims)]
    assert set(answers) == set(house.engines())
    assert len(house.engines()) == 1


def test_the_engine_outlives_its_shim_in_a_session_and_a_family_of_its_own(house: House) -> None:
    shim = house.shim()
    pid = shim.ask("echo", 1)["result"]["pid"]
    os.kill(shim.process.pid, signal.SIGKILL)
    shim.wait()
    assert house.shim().ask("echo", 1)["result"]["pid"] == pid
    started = house.entries("started")[0]
    assert started["sid"] == pid
    assert started["parent"] != shim.process.pid
    assert started["cwd"] == str(house.config.parent)


def test_the_engine_inherits_no_descriptor_and_logs_to_a_private_file(house: House) -> None:
    inherited = os.open(house.config, os.O_RDONLY)
    try:
        house.shim(pass_fds=(inherited,)).ask("echo", 1)
    finally:
        os.close(inherited)
    descriptors = house.entries("listening")[0]["descriptors"]
    assert descriptors["0"] == os.devnull
    assert descriptors["1"] == descriptors["2"] == str(house.paths.log)
    assert str(house.config) not in descriptors.values()
    assert house.paths.log.stat().st_mode & 0o777 == 0o600


def test_a_client_keeps_its_session_when_the_engine_is_killed(house: House) -> None:
    shim = house.shim()
    first = shim.ask("initialize", 0, client="old")["result"]["pid"]
    shim.send("notifications/initialized")
    shim.ask("echo", 1)
    house.kill_engine()
    second = shim.ask("echo", 2)["result"]["pid"]
    assert second != first
    replayed = [entry["method"] for entry in house.entries("method") if entry["pid"] == second]
    assert replayed == ["initialize", "notifications/initialized", "echo"]


def test_a_client_of_2026_has_nothing_replayed(house: House) -> None:
    shim = house.shim()
    shim.ask("server/discover", "d")
    house.kill_engine()
    second = shim.ask("echo", 2)["result"]["pid"]
    assert [entry["method"] for entry in house.entries("method") if entry["pid"] == second] == ["echo"]


def test_the_engine_comes_back_without_the_client_asking(house: House) -> None:
    house.shim().ask("echo", 1)
    house.kill_engine()
    wait_until(lambda: len(house.entries("listening")) == 2, TIMEOUT_S, "a second engine")


def test_each_unanswered_request_is_answered_with_an_error_and_never_sent_again(house: House) -> None:
    shim = house.shim()
    shim.ask("echo", 0)
    shim.send("hang", 1)
    shim.send("hang", "one")
    shim.send("subscriptions/listen", 3)
    wait_until(lambda: len(house.received("subscriptions/listen")) == 1, TIMEOUT_S, "all requests at the engine")
    house.kill_engine()
    answers = [shim.receive() for _ in range(3)]
    assert answers == [{"jsonrpc": "2.0", "id": asked, "error": RESTARTED} for asked in (1, "one", 3)]
    assert shim.ask("echo", 4)["id"] == 4
    assert [entry["id"] for entry in house.received("hang")] == [1, "one"]


def test_a_request_that_kills_the_engine_is_answered_and_not_repeated(house: House) -> None:
    shim = house.shim()
    for attempt in range(3):
        assert shim.ask("die", attempt)["error"] == RESTARTED
    assert shim.ask("echo", "after")["result"]["params"] == {}
    assert [entry["id"] for entry in house.received("die")] == [0, 1, 2]


def test_a_cancelled_request_is_not_answered_at_a_restart(house: House) -> None:
    shim = house.shim()
    shim.send("hang", 1)
    shim.send("notifications/cancelled", requestId=1)
    shim.ask("echo", 2)
    house.kill_engine()
    assert shim.ask("echo", 3)["id"] == 3


def test_requests_that_arrive_during_a_restart_wait_in_order(house: House) -> None:
    shim = house.shim("--slow", "0.5")
    shim.ask("echo", 0)
    first = house.kill_engine()
    for number in range(1, 200):
        shim.send("echo", number)
    answers = [shim.receive() for _ in range(1, 200)]
    assert [answer["id"] for answer in answers] == list(range(1, 200))
    assert all(answer["result"]["pid"] != first for answer in answers if "result" in answer)
    assert len(house.received("echo")) == len({entry["id"] for entry in house.received("echo")})


def test_under_kills_each_request_is_answered_once_and_reaches_an_engine_at_most_once(house: House) -> None:
    shims = [house.shim() for _ in range(3)]
    for number, shim in enumerate(shims):
        shim.ask("initialize", f"{number}/start")
        shim.send("notifications/initialized")
    answered: dict[str, list[str]] = {}
    for killed in range(6):
        for number, shim in enumerate(shims):
            for request in range(100):
                shim.send("echo", f"{number}/{killed}/{request}")
        wait_until(lambda: len(house.received("echo")) > len(answered), TIMEOUT_S, "the engine at work")
        house.kill_engine()
        for shim in shims:
            for _ in range(100):
                answer = shim.receive()
                answered.setdefault(answer["id"], []).append("error" if "error" in answer else "result")
    assert len(answered) == 6 * 3 * 100
    assert {len(outcomes) for outcomes in answered.values()} == {1}
    received = [entry["id"] for entry in house.received("echo")]
    assert len(received) == len(set(received))
    assert {"result"} <= {outcomes[0] for outcomes in answered.values()}


def test_what_a_stopping_engine_said_last_is_heard(house: House) -> None:
    shim = house.shim()
    shim.ask("echo", 0)
    lines = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"echo"}\n' % number for number in range(1, 2000))
    shim.write_bytes(lines + b'{"jsonrpc":"2.0","method":"stop"}\n')
    answers = [shim.receive() for _ in range(1, 2000)]
    assert [answer["id"] for answer in answers] == list(range(1, 2000))
    assert all("result" in answer for answer in answers)


def test_an_initialize_that_died_with_the_engine_is_answered_by_the_next(house: House) -> None:
    shim = house.shim()
    # The engine gets `die` in the same segment as `initialize`, and is gone before it has answered either.
    shim.write_bytes(
        b'{"jsonrpc":"2.0","id":"kill","method":"die"}\n{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}\n'
    )
    by_id = {answer["id"]: answer for answer in (shim.receive(), shim.receive())}
    assert by_id["kill"]["error"] == RESTARTED
    assert by_id[0]["result"]["pid"] == house.engines()[1]


def test_answers_to_a_dead_engine_do_not_reach_the_next(house: House) -> None:
    shim = house.shim()
    shim.send("ask", "first", question="which?")
    old = shim.receive()
    assert old["method"] == "elicitation/create"
    house.kill_engine()
    told = [shim.receive() for _ in range(2)]
    assert told[0]["error"] == RESTARTED
    assert told[1]["method"] == "notifications/cancelled"
    assert told[1]["params"]["requestId"] == old["id"]

    shim.send("ask", "second", question="and now?")
    new = shim.receive()
    assert new["id"] != old["id"]
    shim.write({"jsonrpc": "2.0", "id": old["id"], "result": "late"})
    shim.write({"jsonrpc": "2.0", "id": new["id"], "result": "fresh"})
    assert shim.receive() == {"jsonrpc": "2.0", "id": "second", "result": {"said": "fresh"}}


def test_a_question_that_the_next_engine_withdraws_is_withdrawn_under_the_clients_id(house: House) -> None:
    shim = house.shim()
    shim.ask("echo", 0)
    house.kill_engine()
    shim.send("ask", "a")
    asked = shim.receive()
    shim.send("withdraw")
    assert shim.receive()["params"]["requestId"] == asked["id"]


def test_an_engine_that_said_goodbye_comes_back_only_for_the_clients_next_line(house: House) -> None:
    shim = house.shim()
    shim.send("hang", 1)
    shim.send("stop")
    assert shim.receive()["error"] == RESTARTED
    pid = house.engines()[0]
    wait_until(lambda: not alive(pid), TIMEOUT_S, "the end of the engine")
    other = house.shim("--slow", "0.2")
    assert other.ask("echo", 1)["result"]["pid"] == house.engines()[1]
    assert shim.ask("echo", 2)["result"]["pid"] == house.engines()[1]
    assert len(house.engines()) == 2


def test_three_failed_starts_end_the_shim_with_the_logs_last_lines(house: House) -> None:
    shim = house.shim("--fail", "7", "--last-words", "the disk is on fire")
    with pytest.raises(ClosedError):
        shim.receive()
    assert shim.wait() == 1
    said = shim.stderr()
    assert "exited with code 7" in said
    assert "the disk is on fire" in said
    assert str(house.paths.log) in said
    assert len(house.engines()) == 3


def test_a_start_that_is_refused_is_not_tried_again(house: House) -> None:
    shim = house.shim("--fail", "2", "--last-words", "holdfast.yaml:3: no such key")
    assert shim.wait() == 2
    assert "holdfast.yaml:3: no such key" in shim.stderr()
    assert len(house.engines()) == 1


def test_a_refused_hello_exits_2_and_says_why(house: House) -> None:
    shim = house.shim("--refuse", "there is no principal 'nobody'", principal="nobody")
    assert shim.wait() == 2
    assert "there is no principal 'nobody'" in shim.stderr()
    assert house.entries("hello")[0]["principal"] == "nobody"


def test_a_warning_goes_to_stderr_and_the_client_is_served(house: House) -> None:
    shim = house.shim("--warn", "the config has changed")
    shim.ask("echo", 1)
    shim.close_stdin()
    assert shim.wait() == 0
    assert "warning: the config has changed" in shim.stderr()


def test_a_config_that_is_not_there_exits_2_and_starts_nothing(house: House) -> None:
    house.config.unlink()
    shim = house.shim()
    assert shim.wait() == 2
    assert f"cannot read the config {house.config}" in shim.stderr()
    assert house.engines() == []


def test_the_hello_carries_digests_of_the_variables_that_the_config_uses(house: House) -> None:
    house.config.write_text("a: ${TOKEN}\n# ${COMMENTED}\nb: ${UNSET:-x} $${LITERAL}\n")
    house.environment |= {"TOKEN": "secret", "COMMENTED": "1", "LITERAL": "2"}
    house.shim().ask("echo", 1)
    variables = house.entries("hello")[0]["variables"]
    assert set(variables) == {"TOKEN"}
    assert re.fullmatch("[0-9a-f]{64}", variables["TOKEN"])
    assert "secret" not in house.journal.read_text()


def test_a_client_that_leaves_gets_the_answers_it_waits_for(house: House) -> None:
    shim = house.shim("--slow", "0.3")
    for number in range(50):
        shim.send("echo", number)
    shim.close_stdin()
    assert [shim.receive()["id"] for _ in range(50)] == list(range(50))
    with pytest.raises(ClosedError):
        shim.receive()
    assert shim.wait() == 0


def test_a_last_line_without_a_newline_is_sent(house: House) -> None:
    shim = house.shim()
    shim.write_bytes(b'{"jsonrpc":"2.0","id":1,"method":"echo"}')
    shim.close_stdin()
    assert shim.receive()["id"] == 1


def test_a_line_that_is_no_json_passes_and_the_engine_answers_it(house: House) -> None:
    shim = house.shim()
    shim.write_bytes(b"garbage \xff\n")
    assert shim.receive()["error"]["code"] == -32700
    shim.write_bytes(b"[" * 100_000 + b"\n")
    assert shim.receive()["error"]["code"] == -32700
    assert shim.ask("echo", 1)["id"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_shim_at_once_and_not_the_engine(house: House, number: signal.Signals) -> None:
    shim = house.shim()
    shim.ask("echo", 0)
    shim.send("hang", 1)
    shim.process.send_signal(number)
    assert shim.wait() == 0
    assert shim.stderr() == ""
    assert alive(house.engines()[0])


def test_a_shim_whose_client_is_gone_ends(house: House) -> None:
    house.shim().ask("echo", 0)
    command = [sys.executable, str(HERE / "run_shim.py"), str(house.config), "", *house.engine_command()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=house.environment) as shim:
        assert shim.stdout is not None
        shim.stdout.close()
        assert shim.wait(TIMEOUT_S) == 0


def test_fifty_megabytes_pass_both_ways(house: House) -> None:
    shim = house.shim()
    size = 50_000_000
    shim.send("fill", 1, bytes=size, ballast="y" * size)
    assert len(shim.receive(60.0)["result"]["text"]) == size


def test_a_client_that_reads_late_gets_everything_and_fills_no_memory(house: House) -> None:
    shim = house.shim()
    shim.ask("echo", "first")
    shim.stop_reading()
    for number in range(200):
        shim.send("fill", number, bytes=1_000_000)
    wait_until(lambda: house.received("fill") != [], TIMEOUT_S, "the engine at work")
    wait_until(lambda: stalled(house), TIMEOUT_S, "the engine waiting for its reader")
    assert resident_megabytes(shim.process.pid) < 60
    shim.read_on()
    assert [shim.receive()["id"] for _ in range(200)] == list(range(200))


def test_a_client_that_writes_much_and_reads_slowly_does_not_lock_up(house: House) -> None:
    shim = house.shim()
    for number in range(30):
        shim.send("echo", number, ballast="z" * 2_000_000)
    answers = [shim.receive() for _ in range(30)]
    assert [(answer["id"], len(answer["result"]["params"]["ballast"])) for answer in answers] == [
        (number, 2_000_000) for number in range(30)
    ]


def stalled(house: House) -> bool:
    """Whether the engine has taken in no further request for a while."""
    before = len(house.received("fill"))
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if len(house.received("fill")) != before:
            return False
    return before < 200


def resident_megabytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1000
