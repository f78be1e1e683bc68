"""What a client writes on stdio and no parser should see: refused by its id, and the session goes on."""

import pytest
from plain_client import Unanswered, plain_client

DEEP = b"[" * 100_000 + b"]" * 100_000
LONG = b'"' + b"x" * 3_000_000 + b'"'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(b'{"n": 1, "n": 2}', "twice"), (b'{"n": ' + DEEP + b"}", "nested"), (b'{"n": ' + LONG + b"}", "too long")],
    ids=["a key twice", "too deep", "too long"],
)
async def test_it_is_refused_by_its_id_and_the_next_call_runs(workspace, arguments, words):
    workspace.write_config()
    async with plain_client(workspace) as client:
        start = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":' % client.next_id
        with pytest.raises(Unanswered, match=words):
            await client.send(start + b'{"name":"ledger__write","arguments":' + arguments + b"}}")
        await client.call_tool("ledger__write", {"n": 3})
    assert [effect.arguments["n"] for effect in workspace.ledger.effects()] == [3]
