"""What a new config changes, by name."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from holdfast_policy.values import ApprovalTerms, Effect, Preset, Rule
from holdfast_server.config import Config, PrincipalEntry, load
from holdfast_server.config.changes import Difference, Downstreams, changes, needing_a_restart
from holdfast_store.contract import Retention
from holdfast_store.model.values import Principal
from holdfast_tools.downstream.spec import DownstreamSpec, HttpSpec, StdioSpec
from holdfast_tools.settings import ToolPattern

A_RULE = Rule("refunds", Effect.DENY)
ANNA = PrincipalEntry(Principal("anna", frozenset({"approver"})), "00")
GIT = DownstreamSpec("git", StdioSpec("git-server"))
PAYMENTS = DownstreamSpec("payments", HttpSpec("http://127.0.0.1:1/mcp"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "holdfast.yaml"
    path.write_text("mcpServers: {}\n")
    plain = load(path, {"XDG_STATE_HOME": str(tmp_path)})
    return replace(plain, downstreams=(GIT, PAYMENTS), rules=(A_RULE,), principals=(ANNA,))


def test_equal_configs_have_no_changes(config: Config) -> None:
    found = changes(config, replace(config))
    assert not found
    assert found.downstreams == Downstreams(unchanged=("git", "payments"))
    assert found.payload()["changed"] is False
    assert str(found) == "nothing changed"
    assert needing_a_restart(config, replace(config)) == ()


def test_downstreams_are_added_removed_and_restarted(config: Config) -> None:
    moved = replace(PAYMENTS, transport=HttpSpec("http://127.0.0.1:2/mcp"))
    time = DownstreamSpec("time", StdioSpec("time-server"))
    found = changes(config, replace(config, downstreams=(time, moved)))
    assert found.downstreams == Downstreams(added=("time",), removed=("git",), restarted=("payments",))


@pytest.mark.parametrize(
    "transport",
    [
        StdioSpec("git-server", env={"TOKEN": "new"}),
        StdioSpec("git-server", args=("--verbose",)),
        StdioSpec("git-server", cwd="/"),
    ],
)
def test_whatever_changes_about_its_process_restarts_a_downstream(config: Config, transport: StdioSpec) -> None:
    found = changes(config, replace(config, downstreams=(replace(GIT, transport=transport), PAYMENTS)))
    assert found.downstreams.restarted == ("git",)
    assert found.downstreams.unchanged == ("payments",)


def test_the_order_of_the_file_changes_nothing(config: Config) -> None:
    other = Rule("transfers", Effect.DENY)
    before = replace(config, rules=(A_RULE, other))
    after = replace(config, downstreams=(PAYMENTS, GIT), rules=(other, A_RULE))
    assert not changes(before, after)


def test_rules_and_principals_are_known_by_their_ids(config: Config) -> None:
    changed = Rule("refunds", Effect.REQUIRE_APPROVAL)
    ben = PrincipalEntry(Principal("ben"), None)
    found = changes(config, replace(config, rules=(changed, Rule("more", Effect.ALLOW)), principals=(ben,)))
    assert found.rules == Difference(added=("more",), changed=("refunds",))
    assert found.principals == Difference(added=("ben",), removed=("anna",))
    assert str(found) == "rules added: more; rules changed: refunds; principals added: ben; principals removed: anna"


def test_another_token_changes_a_principal(config: Config) -> None:
    found = changes(config, replace(config, principals=(replace(ANNA, token_sha256="11"),)))
    assert found.principals == Difference(changed=("anna",))


def test_settings_of_tools_and_trust_are_told_entry_by_entry(config: Config) -> None:
    before = replace(
        config,
        patterns=(ToolPattern("a__*", {"strict": True}), ToolPattern("b__*", {})),
        trust={"git": frozenset({"readOnlyHint"})},
    )
    after = replace(config, patterns=(ToolPattern("a__*", {"strict": False}), ToolPattern("c__*", {})), trust={})
    assert set(changes(before, after).settings) == {"tools.a__*", "tools.b__*", "tools.c__*", "trust_annotations.git"}


def test_another_store_needs_a_restart_and_is_no_change(config: Config) -> None:
    after = replace(config, store_url="sqlite:////elsewhere/state.db")
    assert needing_a_restart(config, after) == ("store",)
    assert not changes(config, after)


OTHER: dict[str, Callable[[Config], Any]] = {
    "downstreams": lambda config: (),
    "store_url": lambda config: config.store_url + "2",
    "preset": lambda config: Preset.STRICT,
    "rules": lambda config: (),
    "approval_defaults": lambda config: ApprovalTerms(min_verdicts=2),
    "patterns": lambda config: (ToolPattern("git__*", {"strict": False}),),
    "trust": lambda config: {"git": frozenset({"idempotentHint"})},
    "prefix": lambda config: not config.prefix,
    "inline_wait_s": lambda config: config.inline_wait_s + 1,
    "answer_within_s": lambda config: config.answer_within_s + 1,
    "principals": lambda config: (),
    "retention": lambda config: Retention(1, 2, 3, 4, 5),
    "idle_exit_s": lambda config: config.idle_exit_s + 1,
    "max_arguments_bytes": lambda config: config.max_arguments_bytes + 1,
    "max_result_bytes": lambda config: config.max_result_bytes + 1,
}
WITHOUT_EFFECT = {"path", "digest", "variables", "warnings"}


def test_every_setting_is_either_told_or_needs_a_restart(config: Config) -> None:
    assert {field.name for field in fields(Config)} == {*OTHER, *WITHOUT_EFFECT}
    for name, other in OTHER.items():
        after = replace(config, **{name: other(config)})
        assert bool(changes(config, after)) != bool(needing_a_restart(config, after)), name
