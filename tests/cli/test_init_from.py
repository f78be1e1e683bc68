"""`holdfast init --from`: a client's servers move behind Holdfast, and back."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from support.workspace import Workspace
from typer.testing import CliRunner, Result

from holdfast_policy.values import Preset
from holdfast_server.cli.app import app
from holdfast_server.cli.clients import CLIENTS, places
from holdfast_server.config import load

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, where all clients look."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    for name in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
    return home


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return path


def init(*arguments: str) -> Result:
    return runner.invoke(app, ["init", *arguments])


def desktop(home: Path, servers: Any) -> Path:
    file = places(CLIENTS["claude-desktop"], home, {"HOME": str(home)})[0].file
    return write(file, {"globalShortcut": "Ctrl+Space", "mcpServers": servers})


SILENT = {"command": sys.executable, "args": ["-c", "raise SystemExit('no luck today')"]}
QUIET = {"quiet": {"command": "quiet-server"}}


@pytest.mark.parametrize("client", ["claude-desktop", "claude-code", "cursor", "vscode"])
def test_each_known_client_is_found_where_it_keeps_its_servers(client: str, home: Path) -> None:
    place = places(CLIENTS[client], home, {"HOME": str(home)})[0]
    write(place.file, {place.path[-1]: QUIET})
    result = init("--from", client, "--no-connect", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["source"] == str(place.file)
    config = load(home / "holdfast.yaml", {"HOME": str(home)})
    assert [spec.name for spec in config.downstreams] == ["quiet"]
    assert config.inline_wait_s == CLIENTS[client].inline_wait_s
    assert config.warnings == ()
    entry = answer["entry"][place.path[-1]]["holdfast"]
    assert entry["args"] == ["serve", str(home / "holdfast.yaml")]
    assert ("type" in entry) == (client in ("claude-code", "vscode"))


def test_every_tool_is_shown_with_what_is_believed_of_it_and_what_happens_to_a_call(
    home: Path, workspace: Workspace
) -> None:
    desktop(home, {"ledger": workspace.ledger_downstream()})
    result = init("--from", "claude-desktop", "--json")
    assert result.exit_code == 0, result.output
    tools = {tool["name"]: tool for tool in json.loads(result.stdout)["tools"]}
    assert tools["ledger__read"]["annotations"]["readOnlyHint"] is True
    assert tools["ledger__write"]["by_default"]["effect"] == "allow"
    assert tools["ledger__destroy"]["by_default"]["effect"] == "require_approval"
    assert "ledger: connected" in result.stderr


def test_a_server_that_cannot_start_is_told_with_its_last_words_and_stops_the_write(home: Path) -> None:
    file = desktop(home, {"silent": SILENT})
    before = file.read_text()
    result = init("--from", "claude-desktop", "--write")
    assert result.exit_code == 1
    assert "no luck today" in result.stderr
    assert "was left as it is" in result.stderr
    assert file.read_text() == before
    assert init("--from", "claude-desktop", "--write", "--force").exit_code == 1
    assert "holdfast" in json.loads(file.read_text())["mcpServers"]


def test_write_and_undo_give_the_file_back_byte_for_byte(home: Path) -> None:
    file = write(home / ".config/Code/User/mcp.json", '{\n\t// mine\n\t"servers": {"quiet": {"command": "q",}},\n}\n')
    file.chmod(0o640)
    before = file.read_bytes()
    written = init("--from", "vscode", "--no-connect", "--write")
    assert written.exit_code == 0, written.output
    text = file.read_text()
    assert text.startswith("{\n\t// mine\n")
    assert '"quiet"' not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (backup,) = file.parent.glob("*.holdfast-backup")
    assert backup.read_bytes() == before
    undone = init("--from", "vscode", "--undo")
    assert undone.exit_code == 0, undone.output
    assert file.read_bytes() == before
    assert list(file.parent.glob("*.holdfast-backup")) == []


def test_undo_keeps_what_the_client_wrote_since(home: Path) -> None:
    file = write(home / ".claude.json", {"numStartups": 1, "mcpServers": QUIET})
    assert init("--from", "claude-code", "--no-connect", "--write").exit_code == 0
    since = json.loads(file.read_text())
    since["numStartups"] = 2
    since["mcpServers"]["later"] = {"command": "later"}
    write(file, since)
    assert init("--from", "claude-code", "--undo").exit_code == 0
    assert json.loads(file.read_text()) == {"numStartups": 2, "mcpServers": {**QUIET, "later": {"command": "later"}}}
    again = init("--from", "claude-code", "--undo")
    assert again.exit_code == 1
    assert "nothing to undo" in again.stderr


def test_a_second_run_changes_nothing(home: Path) -> None:
    file = desktop(home, QUIET)
    assert init("--from", "claude-desktop", "--no-connect", "--write").exit_code == 0
    config, token, client = (
        path.read_bytes() for path in (home / "holdfast.yaml", home / "holdfast.approver.token", file)
    )
    again = init("--from", "claude-desktop", "--no-connect", "--write")
    assert again.exit_code == 0, again.output
    assert "already" in again.stdout
    assert config == (home / "holdfast.yaml").read_bytes()
    assert token == (home / "holdfast.approver.token").read_bytes()
    assert client == file.read_bytes()
    assert len(list(file.parent.glob("*.holdfast-backup"))) == 1


def test_a_config_that_was_edited_is_kept_and_one_that_lacks_servers_is_not_overwritten(home: Path) -> None:
    desktop(home, QUIET)
    config = write(home / "holdfast.yaml", "mcpServers: {quiet: {command: other}}\npreset: strict\n")
    kept = init("--from", "claude-desktop", "--no-connect", "--write", "--json")
    assert json.loads(kept.stdout)["config_kept"] is True
    assert json.loads(kept.stdout)["preset"] == "strict"
    assert "other" in config.read_text()
    assert "has the preset strict" in init("--from", "claude-desktop", "--preset", "observe").stderr
    file = desktop(home, {**QUIET, "more": {"command": "more-server"}})
    refused = init("--from", "claude-desktop", "--no-connect", "--write")
    assert refused.exit_code == 1
    assert '"more":' in refused.stderr
    assert "more" in json.loads(file.read_text())["mcpServers"]


def test_several_scopes_need_a_choice(home: Path) -> None:
    write(home / ".claude.json", {"mcpServers": QUIET, "projects": {str(home): {"mcpServers": {"p": QUIET["quiet"]}}}})
    refused = init("--from", "claude-code", "--no-connect")
    assert refused.exit_code == 2
    assert "--scope user" in refused.stderr
    assert "--scope local" in refused.stderr
    local = init("--from", "claude-code", "--scope", "local", "--no-connect", "--json")
    assert local.exit_code == 0, local.output
    assert [server["name"] for server in json.loads(local.stdout)["servers"]] == ["p"]
    unknown = init("--from", "claude-code", "--scope", "team")
    assert "user, local, project" in unknown.stderr


def test_what_vs_code_asks_its_user_for_is_asked_for_still(home: Path) -> None:
    server = {"command": "q", "env": {"KEY": "${input:api-key}"}}
    file = write(
        home / "shop/.vscode/mcp.json",
        {"inputs": [{"id": "api-key", "type": "promptString"}], "servers": {"s": server}},
    )
    result = init("--from", str(file), "--write", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["servers"][0]["state"] == "not tried"
    written = json.loads(file.read_text())
    assert written["inputs"] == [{"id": "api-key", "type": "promptString"}]
    assert written["servers"]["holdfast"]["env"] == {"API_KEY": "${input:api-key}"}
    spec = load(home / "holdfast.yaml", {"HOME": str(home), "API_KEY": "k"}).downstreams[0]
    assert spec.transport.env == {"KEY": "k"}  # type: ignore[union-attr]


def test_a_literal_secret_is_kept_in_a_file_of_ones_own_and_warned_of(home: Path) -> None:
    desktop(home, {"quiet": {"command": "q", "env": {"API_TOKEN": "ghp_abcdefghijklmnopqrstuvwxyz"}}})
    result = init("--from", "claude-desktop", "--no-connect")
    assert "env.API_TOKEN looks like a secret" in result.stdout
    assert "ghp_" not in result.output
    config = home / "holdfast.yaml"
    assert "ghp_abcdefghijklmnopqrstuvwxyz" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


UNHINTED = """
import anyio, mcp_types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

async def tools(ctx, params):
    return mcp_types.ListToolsResult(tools=[mcp_types.Tool(name="act", input_schema={"type": "object"})])

async def main():
    server = Server("unhinted", on_list_tools=tools)
    async with stdio_server() as streams:
        await server.run(*streams, server.create_initialization_options())

anyio.run(main)
"""


def test_where_no_server_gives_hints_the_first_preset_observes_unless_it_is_chosen(home: Path) -> None:
    desktop(home, {"unhinted": {"command": sys.executable, "args": ["-c", UNHINTED]}})
    result = init("--from", "claude-desktop", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tools"][0]["by_default"] == {
        "effect": "allow",
        "rules": ["preset:observe"],
        "would_ask": True,
        "conditions": [],
    }
    assert load(home / "holdfast.yaml", {"HOME": str(home)}).preset is Preset.OBSERVE
    assert init("--from", "claude-desktop", "--preset", "strict", "--force").exit_code == 0
    assert load(home / "holdfast.yaml", {"HOME": str(home)}).preset is Preset.STRICT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "mcp.json:1: "),
        ('{"mcpServers": []}', "is no object"),
        ("{}", "no servers to import"),
        ("", "no servers to import"),
    ],
)
def test_a_file_without_servers_is_an_error_that_says_where(home: Path, content: str, words: str) -> None:
    file = write(home / "mcp.json", content)
    result = init("--from", str(file))
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not (home / "holdfast.yaml").exists()


def test_neither_a_client_nor_a_file_is_an_error(home: Path) -> None:
    result = init("--from", "claude-dekstop")
    assert result.exit_code == 2
    assert "claude-desktop" in result.stderr


def test_options_of_an_import_need_a_source(home: Path) -> None:
    assert init("--write").exit_code == 2
