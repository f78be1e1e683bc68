"""`holdfast init` leaves something that works."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holdfast_server.cli.app import app
from holdfast_server.config import load

runner = CliRunner()


def test_what_init_writes_is_a_good_config_with_an_approver(tmp_path: Path) -> None:
    path = tmp_path / "new" / "holdfast.yaml"
    result = runner.invoke(app, ["init", str(path)])
    assert result.exit_code == 0, result.output
    config = load(path, {"HOME": str(tmp_path)})
    assert config.warnings == ()
    assert [spec.name for spec in config.downstreams] == ["time"]
    (entry,) = config.principals
    assert entry.principal.roles == {"approver", "admin"}
    assert entry.token_sha256 is not None
    assert stat.S_IMODE((path.parent / "holdfast.approver.token").stat().st_mode) == 0o600


def test_init_prints_the_entry_for_a_client_with_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = json.loads(runner.invoke(app, ["init", "--json"]).stdout)["client"]["mcpServers"]["holdfast"]
    assert Path(entry["command"]).is_absolute()
    assert Path(entry["command"]).name == "holdfast"
    assert entry["args"] == ["serve", str(tmp_path / "holdfast.yaml")]


def test_init_overwrites_only_when_it_is_forced(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.yaml"
    path.write_text("mine")
    refused = runner.invoke(app, ["init", str(path)])
    assert refused.exit_code == 1
    assert "--force overwrites" in refused.stderr
    assert path.read_text() == "mine"
    assert runner.invoke(app, ["init", str(path), "--force"]).exit_code == 0
    assert load(path, {"HOME": str(tmp_path)}).downstreams


def test_the_commented_examples_of_the_template_are_good_too(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.yaml"
    runner.invoke(app, ["init", str(path)])
    lines = path.read_text().splitlines()
    active, uncommenting = [], False
    for line in lines:
        uncommenting = line.startswith(("# rules:", "# tools:", "  # git:")) or (
            uncommenting and line.lstrip().startswith("#")
        )
        active.append(line.replace("# ", "", 1) if uncommenting else line)
    path.write_text("\n".join(active))
    config = load(path, {"HOME": str(tmp_path), "PAYMENTS_TOKEN": "t"})
    assert [rule.id for rule in config.rules] == ["refunds-over-100"]
    assert [spec.name for spec in config.downstreams] == ["time", "git", "payments"]
    assert [pattern.glob for pattern in config.patterns] == ["payments__*"]


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = runner.invoke(app, ["init", str(tmp_path / "file" / "holdfast.yaml")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write")
