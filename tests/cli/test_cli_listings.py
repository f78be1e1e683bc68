"""Calls, approvals and tools are shown out of the store's file: no engine runs in these tests."""

import json
from pathlib import Path

import pytest
from cli_history import History
from typer.testing import CliRunner

from holdfast_server.cli.app import app

runner = CliRunner()


def run(*arguments: object, code: int = 0) -> str:
    """Standard output of a command that ends with `code`; its errors where it does not end with 0."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_calls_are_listed_newest_first(history: History) -> None:
    lines = run("calls", "list", history.config).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [history.in_doubt, "in_doubt", "payments__refund"],
        [history.parked, "waiting_for_approval", "payments__refund"],
        [history.done, "done", "payments__refund"],
    ]


def test_calls_are_listed_by_state_and_tool_and_page(history: History) -> None:
    listed = json.loads(run("calls", "list", history.config, "--status", "in_doubt", "--json"))
    assert [call["id"] for call in listed["calls"]] == [history.in_doubt]
    assert run("calls", "list", history.config, "--tool", "git__commit") == "no such calls\n"
    first = json.loads(run("calls", "list", history.config, "--limit", "2", "--json"))
    rest = json.loads(run("calls", "list", history.config, "--cursor", first["cursor"], "--json"))
    assert [call["id"] for call in first["calls"] + rest["calls"]] == [history.in_doubt, history.parked, history.done]
    assert "cursor" not in rest


def test_a_cursor_that_is_none_is_an_error_in_one_line(history: History) -> None:
    assert "error: --cursor: " in run("calls", "list", history.config, "--cursor", "nonsense", code=1)


def test_a_call_is_shown_with_its_outcome_and_its_timeline(history: History) -> None:
    shown = run("calls", "show", history.config, history.done)
    assert "result: refunded 500" in shown
    assert "\x1b" not in shown
    words = ["waits for approval", "approved, queued", "attempt 1 begins", "done"]
    positions = [shown.index(f"  {text}  ") for text in words]
    assert positions == sorted(positions)
    assert "by anna" in shown


def test_a_shown_call_has_the_fixed_shape_for_programs(history: History) -> None:
    payload = json.loads(run("calls", "show", history.config, history.done, "--json"))
    assert payload["call"]["status"] == "done"
    assert [entry["event"] for entry in payload["timeline"]] == ["park", "approve", "claim", "settle"]


def test_approvals_are_listed_and_shown_with_everything_an_approver_must_see(history: History) -> None:
    assert history.approval in run("approvals", "list", history.config)
    assert len(json.loads(run("approvals", "list", history.config, "--status", "all", "--json"))["approvals"]) == 2
    shown = run("approvals", "show", history.config, history.approval)
    for expected in ("payments__refund", "amount: 700", "1 of approver, not the requester", "expires", history.parked):
        assert expected in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("group", ["calls", "approvals"])
def test_what_is_not_there_is_not_found(history: History, group: str) -> None:
    assert f"`holdfast {group} list CONFIG` shows those there are" in run(group, "show", history.config, "none", code=3)


def test_before_the_first_start_there_is_nothing_and_that_is_no_error(config: Path) -> None:
    assert run("calls", "list", config) == "no calls\n"
    assert run("approvals", "list", config) == "no pending approvals\n"
    assert "no tools seen yet" in run("tools", config)
    assert not (config.parent / "state.db").exists()


def test_a_store_that_is_none_is_an_error_in_one_line(config: Path) -> None:
    (config.parent / "state.db").write_text("this is not a database, it is a sentence of some length")
    told = run("calls", "list", config, code=5)
    assert told.startswith("error: ")
    assert "Traceback" not in told


def test_listings_need_none_of_the_configs_secrets(history: History) -> None:
    text = history.config.read_text().replace("payments-server", '"${HOLDFAST_TEST_UNSET}"')
    history.config.write_text(text)
    assert history.done in run("calls", "list", history.config)
    assert "HOLDFAST_TEST_UNSET is not set" in run("tools", history.config, code=2)


def test_tools_are_shown_with_what_happens_to_a_call_and_what_is_set_aside(history: History) -> None:
    shown = json.loads(run("tools", history.config, "--json"))
    by_name = {tool["name"]: tool for tool in shown["tools"]}
    assert by_name["payments__balance"]["annotations"]["readOnlyHint"] is True
    assert by_name["payments__balance"]["misfits"] == ["odd"]
    assert by_name["payments__balance"]["by_default"]["effect"] == "require_approval"
    refund = by_name["payments__refund"]["by_default"]
    assert refund["effect"] == "require_approval"
    assert [condition["rule"] for condition in refund["conditions"]] == ["large", "known"]
    assert [entry["canonical"] for entry in shown["set_aside"]] == ["payments__broken"]
    assert shown["unseen_servers"] == ["git"]
    words = run("tools", history.config)
    assert "asks; denied if large, allowed if known" in words
    assert "set aside: payments__broken: " in words


def test_tools_of_a_server_that_was_configured_anew_are_not_shown(history: History) -> None:
    history.config.write_text(history.config.read_text().replace("payments-server", "another-server"))
    assert json.loads(run("tools", history.config, "--json"))["unseen_servers"] == ["payments", "git"]


@pytest.mark.parametrize(
    ("arguments", "effect", "rules"),
    [
        ('{"amount": 500}', "deny", ["large"]),
        ('{"amount": 1}', "allow", ["known"]),
        ('{"amount": 50}', "require_approval", ["preset:balanced"]),
    ],
)
def test_policy_explains_a_call_by_its_arguments(
    history: History, arguments: str, effect: str, rules: list[str]
) -> None:
    told = json.loads(
        run(
            "policy",
            "explain",
            history.config,
            "payments__refund",
            "--args",
            arguments,
            "--principal",
            "anna",
            "--json",
        )
    )
    assert (told["effect"], told["rules"], told["principal"], told["known"]) == (effect, rules, "anna", True)
    assert [considered["rule"] for considered in told["considered"]] == ["large", "known", "odd", "preset:balanced"]
    assert told["problems"] == []


def test_policy_says_what_validation_would_refuse_before_it(history: History) -> None:
    told = json.loads(run("policy", "explain", history.config, "payments__refund", "--args", '{"amout": 1}', "--json"))
    assert any("amount" in problem for problem in told["problems"])
    assert told["effect"] == "deny"


def test_policy_explains_a_tool_that_was_never_seen_and_says_so(history: History) -> None:
    told = json.loads(run("policy", "explain", history.config, "git__anything", "--json"))
    assert (told["known"], told["effect"]) == (False, "require_approval")


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("payments__refnd", "did you mean 'payments__refund'?"),
        ("payments__broken", "is set aside"),
        ("nobody__knows", "there is no tool"),
    ],
)
def test_policy_knows_which_tools_there_are(history: History, tool: str, told: str) -> None:
    assert told in run("policy", "explain", history.config, tool, code=3)


@pytest.mark.parametrize(
    ("arguments", "told"), [("{", "is not JSON"), ("[1]", "must be a JSON object"), ("[" * 9999, "--args")]
)
def test_arguments_that_are_no_object_are_an_error_in_one_line(history: History, arguments: str, told: str) -> None:
    assert told in run("policy", "explain", history.config, "payments__refund", "--args", arguments, code=2)


def test_an_unknown_principal_is_not_found(history: History) -> None:
    told = run("policy", "explain", history.config, "payments__refund", "--principal", "otto", code=3)
    assert "there is no principal 'otto'; known are anna" in told


def test_config_check_shows_a_summary_without_secrets(config: Path) -> None:
    shown = json.loads(run("config", "check", config, "--json"))
    assert shown["ok"] is True
    assert [server["name"] for server in shown["config"]["downstreams"]] == ["payments", "git"]
    assert "token" not in json.dumps(shown["config"])


def test_config_check_never_shows_what_came_out_of_a_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_KEY", "sk-verysecret")
    config.write_text("mcpServers: {a: {command: x, args: ['--key=${HOLDFAST_TEST_KEY}']}}\n")
    for shown in (
        run("config", "check", config),
        run("config", "check", config, "--json"),
        run("doctor", config, code=1),
    ):
        assert "verysecret" not in shown
    assert "x --key=${HOLDFAST_TEST_KEY}" in run("config", "check", config)


def test_config_check_shows_every_problem_with_its_place(config: Path) -> None:
    config.write_text(config.read_text() + "preset: loose\nrulez: []\n")
    shown = json.loads(runner.invoke(app, ["config", "check", str(config), "--json"]).stdout)
    assert shown["ok"] is False
    assert [problem["line"] for problem in shown["problems"]] == [11, 12]
    told = run("config", "check", config, code=2)
    assert told.count("error: ") == 2


def test_doctor_finds_what_is_wrong_without_an_engine(history: History) -> None:
    (history.config.parent / "state.db").chmod(0o644)
    result = runner.invoke(app, ["doctor", str(history.config), "--json"])
    assert result.exit_code == 1
    findings = {
        (finding["level"], finding["about"]): finding["text"] for finding in json.loads(result.stdout)["findings"]
    }
    assert "none is running" in findings["ok", "engine"]
    assert "has mode 0644" in findings["problem", "store"]
    assert "there is no command 'payments-server'" in findings["problem", "server payments"]
    assert "set aside" in findings["problem", "tool payments__broken"]
    assert "every call asks" in findings["warning", "tool payments__balance"]
    assert "70 characters" in findings["warning", "tool payments__" + "n" * 60]
    assert "never connected" in findings["warning", "server git"]


def test_doctor_of_a_broken_config_shows_its_problems(config: Path) -> None:
    config.write_text("mcpServers: {a: {comand: x}}\n")
    assert "did you mean 'command'?" in " ".join(run("doctor", config, code=1).split())
