"""A request whose downstream the config dropped after it was found to be the one that is meant."""

from types import SimpleNamespace

import pytest
from mcp.shared.exceptions import MCPError

from holdfast_server.engine.fleet import NotConfigured
from holdfast_server.mcp.relay import Relay
from holdfast_tools.offerings import Offerings, Owned


class Emptied(dict):
    """What the fleet is to who asks for a downstream that is gone."""

    def __missing__(self, name):
        raise NotConfigured(name)


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
async def test_it_is_refused_in_words_that_name_the_downstream(method):
    relay = Relay(Offerings((), prefix=True), Emptied(), SimpleNamespace(listen=None), None)
    with pytest.raises(MCPError, match="'gone'") as refused:
        await relay._answer_of(Owned("gone", "greet"), SimpleNamespace(method=method), None, {})
    assert refused.value.error.data == {"code": "downstream"}
