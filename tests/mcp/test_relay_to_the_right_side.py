"""News that belong to one client, or to the servers that asked it: they reach those and nobody else."""

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from offering import QUIET_S, Heard, Offering, text_of

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

WITHIN_S = 30.0
COMPLETE = types.ElicitCompleteNotification


@pytest.fixture(params=("on stdio", "over HTTP"))
def inquiring(request, workspace, processes):
    """A server of the handshake era."""
    server = Offering(workspace.folder, "inquiring", "--legacy", server="inquiring.py")
    if request.param == "over HTTP":
        server.serve(processes)
    return server


@pytest.fixture
def service(started, inquiring):
    return started(mcpServers={"inquiring": inquiring.entry()}, inline_wait="20s")


async def accept(context, params):
    return types.ElicitResult(action="accept")


async def test_whoever_was_sent_to_a_url_hears_when_its_user_is_done_there(service):
    heard, others = Heard(), Heard()
    with anyio.fail_after(WITHIN_S):
        async with (
            service.client("legacy", elicitation_callback=accept, message_handler=heard) as client,
            service.client("legacy", elicitation_callback=accept, message_handler=others) as other,
        ):
            await other.list_tools()
            assert await text_of(client, "ask://visit") == "accept"
            await client.call_tool("inquiring__visited", {})
            await heard.wait_for(lambda: bool(heard.of(COMPLETE)))
            await anyio.sleep(QUIET_S)
    assert [message.params.elicitation_id for message in heard.of(COMPLETE)] == ["visit-1"]
    assert not others.of(COMPLETE)


async def test_so_does_whoever_was_refused_until_its_user_was_at_a_url(service):
    heard = Heard()
    with anyio.fail_after(WITHIN_S):
        async with service.client("legacy", elicitation_callback=accept, message_handler=heard) as client:
            with pytest.raises(MCPError) as refused:
                await client.call_tool("inquiring__demand", {})
            assert refused.value.code == types.URL_ELICITATION_REQUIRED
            assert refused.value.error.data["elicitations"][0]["elicitationId"] == "visit-1"
            await client.call_tool("inquiring__visited", {})
            await heard.wait_for(lambda: bool(heard.of(COMPLETE)))


async def test_a_server_that_asked_for_roots_hears_that_they_changed(service, inquiring):
    roots = ["file:///one"]

    async def list_roots(context):
        return types.ListRootsResult(roots=[types.Root(uri=uri) for uri in roots])

    with anyio.fail_after(WITHIN_S):
        async with service.client("legacy", list_roots_callback=list_roots) as client:
            assert await text_of(client, "ask://roots") == "file:///one"
            roots.append("file:///two")
            await client.send_roots_list_changed()
            await client.session.send_ping()
            assert await text_of(client, "ask://roots") == "file:///one, file:///two"
            await inquiring.notes("roots changed")


async def test_a_server_that_never_asked_for_roots_hears_nothing_of_them(service, inquiring):
    async def list_roots(context):
        return types.ListRootsResult(roots=[])

    with anyio.fail_after(WITHIN_S):
        async with service.client("legacy", list_roots_callback=list_roots, elicitation_callback=accept) as client:
            assert await text_of(client, "ask://visit") == "accept"
            await client.send_roots_list_changed()
            await client.session.send_ping()
            assert await text_of(client, "ask://visit") == "accept"
    assert inquiring.noted() == []
