"""`holdfast tools` says of a tool that only some clients are shown what those must declare."""

import asyncio
import json
from pathlib import Path

from cli_history import TOOLS
from typer.testing import CliRunner

from holdfast_server.cli.app import app
from holdfast_store.contract import SaveCatalog
from holdfast_store.model.values import CatalogRecord, ConditionalTools
from holdfast_store.open import open_store
from holdfast_tools.downstream.spec import DownstreamSpec, StdioSpec

runner = CliRunner()

ASK = {"name": "ask", "inputSchema": {"type": "object"}}


async def save(config: Path) -> None:
    identity = DownstreamSpec("payments", StdioSpec("payments-server", cwd=str(config.parent))).identity
    besides = ConditionalTools({"sampling": {}, "elicitation": {"url": {}}}, (ASK,), "digest")
    store = await open_store(f"sqlite://{config.parent}/state.db")
    try:
        record = CatalogRecord("payments", identity, "2025-11-25", TOOLS, seen_at=0.0, conditional=(besides,))
        await store.commit((SaveCatalog(record),))
    finally:
        await store.close()


def test_it_shows_them_with_what_clients_must_declare(config: Path) -> None:
    asyncio.run(save(config))
    shown = runner.invoke(app, ["tools", str(config)]).stdout
    assert "payments__ask: only for clients that declare elicitation (url) and sampling\n" in shown
    payload = json.loads(runner.invoke(app, ["tools", str(config), "--json"]).stdout)
    needs = {tool["canonical"]: tool["needs"] for tool in payload["tools"]}
    assert needs["payments__ask"] == [{"sampling": {}, "elicitation": {"url": {}}}]
    assert needs["payments__refund"] == []
