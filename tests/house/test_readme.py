"""What the README tells a newcomer to do works as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

from support.processes import Processes
from support.workspace import HOLDFAST, Workspace

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DEADLINE_S = 30.0


def block(language: str) -> str:
    """The README's one code block of `language`."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def test_the_http_client_in_the_readme_refunds_once_however_often_it_runs(
    workspace: Workspace, processes: Processes, tmp_path: Path
) -> None:
    money = workspace.folder / "money.jsonl"
    server = ROOT / "examples" / "payments" / "server.py"
    allow = {
        "id": "small-refunds",
        "match": {"tool": "payments__refund"},
        "when": "args.amount <= 100",
        "effect": "allow",
    }
    workspace.write_config(
        {"mcpServers": {"payments": {"command": sys.executable, "args": [str(server), str(money)]}}, "rules": [allow]}
    )
    engine = processes.start(
        [HOLDFAST, "serve", workspace.config, "--http", "127.0.0.1:0"], environment=workspace.environment
    )
    url = engine.wait_for(r"url=(http://[0-9.:]+/mcp)", DEADLINE_S)[1]
    script = tmp_path / "client.py"
    script.write_text(block("python").replace("http://127.0.0.1:8377/mcp", url))
    outputs = [
        subprocess.run(
            [sys.executable, script],
            env=workspace.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert "payments__refund\n" in outputs[0]
    assert ["'replayed': True" in output for output in outputs] == [False, True]
    assert sum(json.loads(line)["line"] == "begin" for line in money.read_text().splitlines()) == 1


def test_the_entry_to_paste_into_a_client_is_the_one_that_init_prints(workspace: Workspace) -> None:
    printed = json.loads(workspace.run("init", str(workspace.config), "--json", timeout_s=DEADLINE_S).stdout)
    shown = json.loads(block("json"))
    entry, example = printed["client"]["mcpServers"]["holdfast"], shown["mcpServers"]["holdfast"]
    assert entry.keys() == example.keys()
    assert entry["args"][0] == example["args"][0] == "serve"
    assert Path(entry["command"]).name == Path(example["command"]).name == "holdfast"
