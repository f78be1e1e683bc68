"""`holdfast tools`: every tool as it was last seen, what is believed of it, and what happens to a call."""

import os
from pathlib import Path

from holdfast_server.cli.catalog import last_seen, tool_payload, tool_table
from holdfast_server.cli.failures import note
from holdfast_server.cli.output import print_json
from holdfast_server.config import load
from holdfast_tools.conditional import alternatives


def tools(path: Path, as_json: bool) -> None:
    """Print the catalog of the config at `path`."""
    config = load(path, os.environ)
    seen = last_seen(config)
    found = sorted(seen.catalog.tools(), key=lambda tool: tool.canonical)
    aside = sorted(seen.catalog.set_aside(), key=lambda entry: entry.canonical)
    if as_json:
        print_json(
            {
                "tools": [tool_payload(config, tool) for tool in found],
                "set_aside": [
                    {"canonical": entry.canonical, "downstream": entry.downstream, "reason": entry.reason}
                    for entry in aside
                ],
                "unseen_servers": list(seen.unseen),
            }
        )
        return
    print(tool_table(config, found) if found else "no tools seen yet")
    for tool in found:
        if tool.needs:
            print(f"{tool.name}: only for clients that declare {alternatives(tool.needs)}")
        for rule in tool.misfits:
            print(f"{tool.name}: rule {rule} does not fit its schema, so every call asks")
    for entry in aside:
        print(f"set aside: {entry.canonical}: {entry.reason}")
    if seen.unseen:
        note(f"never connected as configured now: {', '.join(seen.unseen)}; `holdfast doctor {path}` says more")
