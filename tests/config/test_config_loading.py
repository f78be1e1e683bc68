"""What a good config file means."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from holdfast_policy.values import ApprovalTerms, Effect, Preset
from holdfast_server.config import Config, load, store_of
from holdfast_server.engine.paths import state_paths
from holdfast_store.contract import Retention
from holdfast_store.model.errors import ConfigError
from holdfast_tools.downstream.spec import HttpSpec, StdioSpec
from holdfast_tools.settings import Order, settings_for

CLAUDE_DESKTOP = {
    "globalShortcut": "Alt+Space",
    "mcpServers": {
        "filesystem": {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/files"],
            "env": {"LEVEL": "debug \U0001f600"},
            "disabled": False,
            "autoApprove": ["read_file"],
            "alwaysAllow": [],
            "timeout": 60000,
            "description": "Files",
        },
        "remote": {"url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer abc"}},
        "old": {"command": "old-server", "env": {"TOKEN": "${NOT_SET_ANYWHERE}"}, "disabled": True},
    },
}


def written(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    """`text` as a config in `folder`, loaded."""
    file = folder / "holdfast.yaml"
    file.write_text(text)
    return load(file, {"HOME": str(folder), **(environ or {})})


@pytest.mark.parametrize("indent", [None, 2, "\t"], ids=["compact", "spaces", "tabs"])
def test_a_pasted_claude_desktop_file_works_unchanged(tmp_path: Path, indent: int | str | None) -> None:
    separators = (",", ":") if indent is None else None
    config = written(tmp_path, json.dumps(CLAUDE_DESKTOP, indent=indent, separators=separators))
    filesystem, remote = config.downstreams
    assert filesystem.transport == StdioSpec(
        "npx",
        ("-y", "@modelcontextprotocol/server-filesystem", "/srv/files"),
        {"LEVEL": "debug \U0001f600"},
        str(tmp_path),
    )
    assert remote.transport == HttpSpec("https://mcp.example/mcp", {"Authorization": "Bearer abc"})


def test_foreign_keys_are_reported_and_a_disabled_server_is_left_out(tmp_path: Path) -> None:
    config = written(tmp_path, json.dumps(CLAUDE_DESKTOP, indent=2))
    assert [spec.name for spec in config.downstreams] == ["filesystem", "remote"]
    told = "\n".join(config.warnings)
    assert "type, disabled, autoApprove, alwaysAllow, timeout, description of the server 'filesystem'" in told
    assert "the server 'old' is disabled and left out" in told
    assert "'globalShortcut' belongs to a client" in told
    assert all(warning.startswith(f"{tmp_path / 'holdfast.yaml'}:") for warning in config.warnings)


def test_a_server_that_is_left_out_needs_none_of_its_variables(tmp_path: Path) -> None:
    config = written(tmp_path, "mcpServers:\n  a: {command: x, disabled: true, env: {A: '${NOT_SET_ANYWHERE}'}}\n")
    assert config.downstreams == ()


def test_everything_but_the_servers_has_a_default(tmp_path: Path) -> None:
    config = written(tmp_path, "mcpServers: {git: {command: mcp-server-git}}\n")
    assert config.store_url == f"sqlite://{state_paths(tmp_path / 'holdfast.yaml', {'HOME': str(tmp_path)}).store}"
    assert config.preset is Preset.BALANCED
    assert config.prefix is True
    assert config.inline_wait_s == 4.0
    assert config.idle_exit_s == 600.0
    assert config.max_arguments_bytes == 1024 * 1024
    assert config.approval_defaults == ApprovalTerms()
    assert config.retention == Retention()
    assert (config.rules, config.patterns, config.principals, config.trust) == ((), (), (), {})
    assert config.digest == hashlib.sha256((tmp_path / "holdfast.yaml").read_bytes()).hexdigest()
    assert config.warnings == ()


def test_sections_without_content_mean_nothing(tmp_path: Path) -> None:
    empty = (
        "rules:\ntools:\nprincipals:\ntrust_annotations:\nnaming:\nengine:\nlimits:\nretention:\napproval_defaults:\n"
    )
    assert written(tmp_path, "mcpServers: {a: {command: x}}\n" + empty).rules == ()


def test_no_principals_and_an_empty_list_of_them_are_the_same(tmp_path: Path) -> None:
    assert written(tmp_path, "mcpServers: {a: {command: x}}\nprincipals: []\n").principals == ()


def test_a_rule_takes_the_terms_it_does_not_name_from_the_defaults(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        """
mcpServers: {payments: {url: "http://127.0.0.1:1/mcp"}}
approval_defaults: {roles: [finance, approver], expires_in: 2h}
principals: [{id: anna, roles: finance}, {id: bert, roles: [finance], tenant: eu}]
rules:
  - id: refunds-over-100
    match: {tool: "payments__refund", annotations: {readOnlyHint: false}, roles: [agent]}
    when: args.amount > 100
    effect: require_approval
    reason: Refunds over 100 need finance
    mode: enforce
    approval: {min: 2, execute_within: 15m}
""",
    )
    (rule,) = config.rules
    assert (rule.id, rule.effect, rule.when) == ("refunds-over-100", Effect.REQUIRE_APPROVAL, "args.amount > 100")
    assert rule.match.annotations == {"readOnlyHint": False}
    assert rule.match.roles == {"agent"}
    assert rule.approval == ApprovalTerms(2, frozenset({"finance", "approver"}), True, 7200.0, 900.0)
    assert [(entry.principal.id, entry.principal.tenant) for entry in config.principals] == [
        ("anna", "default"),
        ("bert", "eu"),
    ]


def test_every_setting_of_a_tool_reaches_the_tools_it_fits(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        """
mcpServers: {payments: {command: x}}
tools:
  "payments__*": {annotations: {idempotentHint: true}, strict: false, timeout: 30s, inline_wait: 20s,
                  retries: {max_attempts: 3}, dedupe: off, join_window: 1m, key_argument: ref, forward_key: reference,
                  cancel: keep, journal: strict, task: auto, order: {by: /order/id}}
  "payments__refund": {dedupe: on, annotations: {destructiveHint: true}}
""",
    )
    settings = settings_for("payments__refund", config.patterns)
    assert settings.annotations == {"idempotentHint": True, "destructiveHint": True}
    assert (settings.strict, settings.timeout_s, settings.inline_wait_s) == (False, 30.0, 20.0)
    assert (settings.max_attempts, settings.dedupe, settings.join_window_s) == (3, True, 60.0)
    assert (settings.key_argument, settings.forward_key, settings.journal_strict) == ("ref", "reference", True)
    assert settings.order == Order(by="/order/id")
    assert settings_for("payments__list", config.patterns).dedupe is False


@pytest.mark.parametrize(
    ("written_as", "order"),
    [("on", Order()), ("true", Order()), ("off", None), ("false", None), ("{by: /a~1b/0}", Order("/a~1b/0"))],
)
def test_calls_run_in_order_where_config_asks_for_it(tmp_path: Path, written_as: str, order: Order | None) -> None:
    text = f"mcpServers: {{a: {{command: x}}}}\ntools: {{'a__*': {{order: on}}, a__b: {{order: {written_as}}}}}\n"
    config = written(tmp_path, text)
    assert settings_for("a__b", config.patterns).order == order
    assert settings_for("a__c", config.patterns).order == Order()


@pytest.mark.parametrize(("written_as", "dedupe"), [("off", False), ("false", False), ("on", True), ("true", True)])
def test_off_is_understood_by_either_version_of_yaml(tmp_path: Path, written_as: str, dedupe: bool) -> None:
    config = written(tmp_path, f"mcpServers: {{a: {{command: x}}}}\ntools: {{'*': {{dedupe: {written_as}}}}}\n")
    assert settings_for("a__b", config.patterns).dedupe is dedupe


def test_a_glob_that_fits_no_server_is_warned_of(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        "mcpServers: {payments: {command: x}}\ntools:\n  '*refund': {strict: true}\n  'paymets__*': {strict: true}\n"
        "rules:\n  - {id: a, effect: deny, match: {server: paymnets}}\n",
    )
    assert [warning.partition(":")[2] for warning in config.warnings] == [
        "4: 'paymets__*' fits no tool: none begins with a configured server's name; did you mean 'payments__...'?",
        "6: 'paymnets' is none of the servers; did you mean 'payments'?",
    ]


def test_relative_paths_mean_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    config = written(
        tmp_path,
        "mcpServers:\n  a: {command: ./bin/server, cwd: work}\n  b: {command: server, args: [./x]}\nstore: sqlite://./s/state.db\n",
    )
    first, second = (spec.transport for spec in config.downstreams)
    assert first == StdioSpec(str(tmp_path / "bin/server"), (), {}, str(tmp_path / "work"))
    assert second == StdioSpec("server", ("./x",), {}, str(tmp_path))
    assert config.store_url == f"sqlite://{tmp_path}/s/state.db"


@pytest.mark.parametrize("slashes", ["sqlite://", "sqlite:///"])
def test_an_absolute_store_may_have_three_slashes_or_four(tmp_path: Path, slashes: str) -> None:
    config = written(tmp_path, f"mcpServers: {{a: {{command: x}}}}\nstore: {slashes}{tmp_path}/state.db\n")
    assert config.store_url == f"sqlite://{tmp_path}/state.db"


def test_values_of_env_and_args_are_taken_as_they_are_written(tmp_path: Path) -> None:
    config = written(tmp_path, "mcpServers: {a: {command: x, args: [1e3, true, 08], env: {PORT: 08080, ON: yes}}}\n")
    transport = config.downstreams[0].transport
    assert isinstance(transport, StdioSpec)
    assert transport.args == ("1e3", "true", "08")
    assert transport.env == {"PORT": "08080", "ON": "yes"}


def test_anchors_and_aliases_work(tmp_path: Path) -> None:
    config = written(tmp_path, "mcpServers:\n  a: &one {command: x}\n  b: *one\n")
    assert [spec.name for spec in config.downstreams] == ["a", "b"]


def test_a_token_in_the_file_itself_is_warned_of_and_one_from_elsewhere_is_not(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    (tmp_path / "c.token").touch(0o600)
    (tmp_path / "c.token").write_text(f"{token}-c\n")
    config = written(
        tmp_path,
        "mcpServers: {a: {command: x}}\nprincipals:\n"
        f"  - {{id: a, token: {token}-a}}\n  - {{id: b, token: '${{TOKEN}}'}}\n  - {{id: c, token_file: c.token}}\n",
        {"TOKEN": f"{token}-b"},
    )
    digests = [entry.token_sha256 for entry in config.principals]
    assert digests == [hashlib.sha256(f"{token}-{name}".encode()).hexdigest() for name in "abc"]
    (warning,) = config.warnings
    assert "holdfast.yaml:3: the token of 'a' stands in the file itself" in warning


def test_only_the_store_can_be_read_out_of_a_config_that_lacks_its_secrets(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text("mcpServers: {a: {command: x, env: {T: '${NOT_SET_ANYWHERE}'}}}\nstore: sqlite://./here.db\n")
    assert store_of(file, {"HOME": str(tmp_path)}) == f"sqlite://{tmp_path}/here.db"
    with pytest.raises(ConfigError):
        load(file, {"HOME": str(tmp_path)})


def test_a_store_that_is_wrong_is_told_even_where_only_the_store_is_read(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text("mcpServers: {}\nstore: ${NOT_SET_ANYWHERE}\n")
    with pytest.raises(ConfigError, match=r"holdfast\.yaml:2"):
        store_of(file, {"HOME": str(tmp_path)})
