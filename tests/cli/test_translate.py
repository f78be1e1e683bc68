"""What a client's entry means, it still means behind Holdfast; what cannot, stays with the client."""

from pathlib import Path
from typing import Any

import pytest

from holdfast_server.cli.clients import CLIENTS, Place
from holdfast_server.cli.literal_secrets import literal_secrets
from holdfast_server.cli.translate import Import, is_own, passed_environment, translate


def place(client: str, folder: Path | None = None) -> Place:
    return Place(CLIENTS[client], "project" if folder else "user", Path("mcp.json"), ("mcpServers",), folder)


def imported(client: str, folder: Path | None = None, **entry: Any) -> Import:
    return translate(place(client, folder), {"git": {"command": "git-server", **entry}})


def test_claude_codes_variables_are_written_as_they_were() -> None:
    found = imported("claude-code", env={"A": "${A}", "B": "${B:-b}"})
    assert found.servers[0].entry["env"] == {"A": "${A}", "B": "${B:-b}"}
    assert passed_environment(CLIENTS["claude-code"], found.servers) == {"A": "${A}", "B": "${B:-b}"}


def test_an_editors_variables_and_inputs_become_variables_that_its_entry_hands_on() -> None:
    found = imported("vscode", env={"A": "${env:A_TOKEN}", "B": "Bearer ${input:api-key}"})
    assert found.servers[0].entry["env"] == {"A": "${A_TOKEN}", "B": "Bearer ${API_KEY}"}
    assert passed_environment(CLIENTS["vscode"], found.servers) == {
        "A_TOKEN": "${env:A_TOKEN}",
        "API_KEY": "${input:api-key}",
    }


def test_a_projects_folder_is_filled_in_where_the_project_is_known() -> None:
    found = imported("cursor", Path("/work/shop"), args=["${workspaceFolder}/x", "${workspaceFolderBasename}"])
    assert found.servers[0].entry["args"] == ["/work/shop/x", "shop"]


@pytest.mark.parametrize("reference", ["${workspaceFolder}", "${command:pick}", "${config:editor.font}"])
def test_what_only_the_editor_knows_stays_with_it(reference: str) -> None:
    found = imported("vscode", args=[reference])
    assert found.servers == ()
    assert reference in found.kept["git"]


def test_claude_desktop_fills_in_nothing_and_so_its_texts_stay_literal() -> None:
    found = imported("claude-desktop", args=["-c", "exec server ${TOKEN}"])
    assert found.servers[0].entry["args"] == ["-c", "exec server $${TOKEN}"]
    assert "${TOKEN}" in found.servers[0].notes[0]


def test_a_projects_servers_start_in_its_folder() -> None:
    folder = Path("/work/shop")
    entries = {"a": {"command": "./bin/a"}, "b": {"command": "b", "cwd": "sub"}, "c": {"url": "https://c.example/mcp"}}
    by_name = {server.name: server.entry for server in translate(place("claude-code", folder), entries).servers}
    assert by_name["a"] == {"command": "/work/shop/bin/a", "cwd": "/work/shop"}
    assert by_name["b"]["cwd"] == "/work/shop/sub"
    assert "cwd" not in by_name["c"]


def test_names_that_tools_cannot_have_are_fitted_without_meeting() -> None:
    entries = {name: {"command": "x"} for name in ("my server", "my_server", "holdfast", "git")}
    found = translate(place("cursor"), entries)
    assert [server.name for server in found.servers] == ["my_server", "my_server-2", "holdfast-2", "git"]
    assert all(server.notes for server in found.servers[:3])


@pytest.mark.parametrize(
    "entry",
    [{}, {"command": "a", "url": "https://b.example"}, "text", {"command": "a", "args": "b"}, {"command": ""}],
)
def test_an_entry_that_is_none_stays_with_the_client(entry: Any) -> None:
    found = translate(place("cursor"), {"odd": entry})
    assert found.servers == ()
    assert found.kept["odd"]


def test_a_disabled_server_stays_disabled_and_keys_without_effect_are_told() -> None:
    server = imported("cursor", disabled=True, autoApprove=["x"], type="stdio", description="d").servers[0]
    assert server.entry == {"command": "git-server", "disabled": True}
    assert any("autoApprove" in text for text in server.notes)
    assert not any("description" in text or "type" in text for text in server.notes)


def test_holdfasts_own_entry_is_known_by_its_command() -> None:
    assert is_own({"command": "/opt/bin/holdfast", "args": ["serve", "/c.yaml"]})
    assert is_own({"command": "uvx", "args": ["holdfast", "serve", "c.yaml"]})
    assert is_own({"command": "python", "args": ["-m", "holdfast_server", "serve", "c.yaml"]})
    assert not is_own({"command": "holdfast", "args": ["doctor"]})
    assert not is_own({"command": "git", "args": ["serve"]})


def test_literal_secrets_are_told_by_place_and_never_shown() -> None:
    entry = {
        "env": {"GITHUB_TOKEN": "ghp_abcdefghijklmnopqrstuvwx", "LEVEL": "info", "SAFE_TOKEN": "${SAFE_TOKEN}"},
        "headers": {"Authorization": "Bearer abcdefghijkl", "Accept": "text/plain"},
        "args": ["--api-key", "hunter22", "--token=abc", "--path", "/tmp", "postgres://u:pw@db/x"],
        "url": "https://a.example/mcp?api_key=abc",
    }
    told = list(literal_secrets(entry))
    assert [text.split(" looks")[0] for text in told] == [
        "env.GITHUB_TOKEN", "headers.Authorization", "args[1]", "args[2]", "args[5]", "url",
    ]  # fmt: skip
    assert not any("hunter22" in text or "ghp_" in text for text in told)
