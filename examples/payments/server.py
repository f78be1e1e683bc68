"""An example downstream: a small payments desk as an MCP server, with effects that a reader can count.

    python examples/payments/server.py LEDGER [--http PORT] [--slow-s SECONDS]

It speaks MCP on stdio, or with ``--http`` on loopback at ``/mcp``. Every charge and refund is written to the file
LEDGER, synced to disk, before (`begin`) and after (`done`) the money moves: what the ledger says is what happened.
A payment whose id starts with ``pay_slow`` takes ``--slow-s`` seconds, so that there is time to pull the plug.

Nothing here knows of Holdfast, and nothing here guards against paying twice. That is the point.
"""

import argparse
import json
import os
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from mcp.server import MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field

OPENING_BALANCE = 10_000.0
SLOW_PREFIX = "pay_slow"

PaymentId = Annotated[str, Field(pattern=r"^pay_[a-z0-9_]+$", description="the payment, for example pay_42")]
Amount = Annotated[float, Field(gt=0, description="how much, in units of the currency")]
Currency = Literal["EUR", "USD"]
Reference = Annotated[str | None, Field(description="your own reference, printed on the statement")]


class Ledger:
    """An append-only file of JSON lines, each synced to disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.path.read_text().splitlines()] if self.path.exists() else []

    def balance(self, currency: str) -> float:
        """The opening balance, plus what was charged, less what was refunded."""
        signs = {"charge": 1, "refund": -1}
        done = [line for line in self.lines() if line["line"] == "done" and line["arguments"]["currency"] == currency]
        moved: float = sum(signs[line["tool"]] * line["arguments"]["amount"] for line in done)
        return OPENING_BALANCE + moved


def payments_server(ledger: Ledger, slow_s: float) -> MCPServer:
    """The tools over one `ledger`."""
    server = MCPServer("payments", instructions="Charges customers, refunds payments, and knows the balance.")

    async def move_money(tool: str, arguments: dict[str, Any]) -> str:
        entry = {"effect": uuid.uuid4().hex[:12], "tool": tool, "arguments": arguments}
        ledger.append({"line": "begin", **entry})
        await anyio.sleep(slow_s if arguments["payment_id"].startswith(SLOW_PREFIX) else 0)
        ledger.append({"line": "done", **entry})
        return f"{tool} of {arguments['amount']:.2f} {arguments['currency']}: {entry['effect']}"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
    def get_balance(currency: Currency) -> str:
        """How much is on the account."""
        return f"{ledger.balance(currency):.2f} {currency}"

    @server.tool(annotations=ToolAnnotations(destructive_hint=False), structured_output=False)
    async def charge(payment_id: PaymentId, amount: Amount, currency: Currency, ref: Reference = None) -> str:
        """Charge a customer for a payment."""
        return await move_money(
            "charge", {"payment_id": payment_id, "amount": amount, "currency": currency, "ref": ref}
        )

    @server.tool(annotations=ToolAnnotations(destructive_hint=True), structured_output=False)
    async def refund(
        payment_id: PaymentId,
        amount: Amount,
        currency: Currency,
        reason: Annotated[str | None, Field(description="why, in a few words")] = None,
        ref: Reference = None,
    ) -> str:
        """Give money back. It cannot be undone."""
        return await move_money(
            "refund",
            {"payment_id": payment_id, "amount": amount, "currency": currency, "reason": reason, "ref": ref},
        )

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="An example payments MCP server.")
    parser.add_argument("ledger", type=Path, help="the file that every movement of money is written to")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve on http://127.0.0.1:PORT/mcp, not on stdio")
    parser.add_argument("--slow-s", type=float, default=5.0, help=f"how long payments named {SLOW_PREFIX}* take")
    options = parser.parse_args()
    server = payments_server(Ledger(options.ledger), options.slow_s)
    if options.http is None:
        server.run("stdio")
    else:
        server.run("streamable-http", port=options.http)


if __name__ == "__main__":
    main()
