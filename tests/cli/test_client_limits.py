"""Doctor and init tell which tools a known client would leave out."""

from holdfast_server.cli.client_limits import refused_by_clients
from holdfast_server.cli.clients import CLAUDE_CODE, CURSOR, VS_CODE
from holdfast_server.mcp.handles import DEFINITIONS


def told(*names: str, client: object = None) -> list[str]:
    return [text for _, text in refused_by_clients(names, client)]  # type: ignore[arg-type]


def test_names_are_counted_together_with_the_entrys_for_cursor() -> None:
    assert told("x" * 52) == []
    assert "Cursor" in told("x" * 53)[0]
    assert "61 characters together" in told("x" * 53)[0]
    assert told("x" * 53, client=CLAUDE_CODE) == []


def test_names_beyond_what_models_take_are_told_whoever_the_client_is() -> None:
    assert told("x" * 64, client=CLAUDE_CODE) == []
    assert "most clients take 64" in told("x" * 65, client=CLAUDE_CODE)[0]
    assert len(told("x" * 65, client=CURSOR)) == 1


def test_tools_are_counted_with_holdfasts_own_for_vs_code() -> None:
    names = [f"t{number}" for number in range(128 - len(DEFINITIONS))]
    assert told(*names) == []
    assert "129" in told(*names, "one_more")[0]
    assert told(*names, "one_more", client=CURSOR) == []
    assert len(told(*names, "one_more", client=VS_CODE)) == 1
