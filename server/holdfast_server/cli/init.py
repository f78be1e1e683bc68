"""`holdfast init`: a first config that works, an approver with a token, and what to do next."""

import json
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from holdfast_server.cli.client_file import replace_text
from holdfast_server.cli.failures import Failure
from holdfast_server.cli.first_config import EXAMPLES, config_text, server_lines, token_file_of, write_token
from holdfast_server.cli.output import print_json
from holdfast_server.engine.paths import PRIVATE_FILE


def init(path: Path, force: bool, as_json: bool) -> None:
    """Write a config to `path` and a token beside it, and print the next steps."""
    token_file = token_file_of(path)
    refuse_folder(path)
    existing = [str(found) for found in (path, token_file) if found.exists() or found.is_symlink()]
    if existing and not force:
        raise Failure(f"{' and '.join(existing)} exist{'s' if len(existing) == 1 else ''}; --force overwrites")
    command, *arguments = example_server()
    servers = server_lines({"time": {"command": command, "args": arguments}})
    text = config_text(path, f"{servers}\n{EXAMPLES}", more=" Paste your own `mcpServers` here.")
    make_folder(path)
    write_token(token_file)
    replace_text(path, text, PRIVATE_FILE)
    entry = {"mcpServers": {"holdfast": client_entry(path)}}
    if as_json:
        print_json({"config": str(path), "token_file": str(token_file), "client": entry})
    else:
        print(_next_steps(path, token_file, entry))


def refuse_folder(path: Path) -> None:
    """Raises `Failure` where `path` is a folder."""
    if path.is_dir():
        raise Failure(f"{path} is a folder; name a file in it, as in {path / 'holdfast.yaml'}")


def make_folder(path: Path) -> None:
    """See that the folder of `path` exists. Raises `Failure`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot write {error.filename}: {error.strerror}; choose another place") from error


def example_server() -> tuple[str, ...]:
    """The command of a harmless server, by what this machine has to start one with."""
    if find_spec("mcp_server_time") is None and shutil.which("uvx") is not None:
        return ("uvx", "mcp-server-time")
    return (sys.executable, "-m", "mcp_server_time")


def client_entry(path: Path) -> dict[str, object]:
    """The entry with which a client starts this very installation for the config at `path`."""
    return {"command": own_command(), "args": ["serve", str(path.resolve())]}


def own_command() -> str:
    """The absolute path of this `holdfast`: clients start servers with a PATH of their own."""
    beside = Path(sys.executable).with_name("holdfast")
    return str(beside) if beside.exists() else shutil.which("holdfast") or str(beside)


def indented(text: str) -> str:
    """`text` as a block within instructions."""
    return "\n".join(f"     {line}" for line in text.splitlines())


def _next_steps(path: Path, token_file: Path, entry: Mapping[str, object]) -> str:
    return f"""\
Wrote {path}
      {token_file} (mode 0600: the approver's token)

1. Put your servers into {path}, then check it:
     holdfast config check {path}
   (`holdfast init --from claude-desktop|claude-code|cursor|vscode` brings those of a client along)

2. Paste this into your client's config in place of the servers you moved
   (Claude Desktop: claude_desktop_config.json):

{indented(json.dumps(entry, indent=2))}

3. See what waits for approval, and decide:
     holdfast approvals list {path}
     holdfast approvals approve {path} APPROVAL

If something does not work: holdfast doctor {path}"""
