"""`holdfast tools` and `holdfast doctor` say which calls run one after the other."""

import json
from collections.abc import Callable

import pytest
from cli_history import History
from typer.testing import CliRunner

from holdfast_server.cli.app import app

runner = CliRunner()


@pytest.fixture
def ordered(history: History) -> Callable[[str], str]:
    """Set the order of `payments__refund`; answers the config's path."""

    def order(setting: str) -> str:
        with history.config.open("a") as file:
            file.write(f"tools: {{payments__refund: {{order: {setting}}}}}\n")
        return str(history.config)

    return order


def warned(config: str) -> list[str]:
    findings = json.loads(runner.invoke(app, ["doctor", config, "--json"]).stdout)["findings"]
    return [each["text"] for each in findings if each["about"] == "tool payments__refund" and "order" in each["text"]]


@pytest.mark.parametrize(
    ("setting", "words", "payload"),
    [
        ("on", "; one at a time\n", {"by": None}),
        ("{by: /amount}", "; one at a time for each /amount\n", {"by": "/amount"}),
    ],
)
def test_tools_shows_the_order_of_a_tools_calls(
    ordered: Callable[[str], str], setting: str, words: str, payload: object
) -> None:
    config = ordered(setting)
    assert words in runner.invoke(app, ["tools", config]).stdout
    tools = json.loads(runner.invoke(app, ["tools", config, "--json"]).stdout)["tools"]
    assert {tool["canonical"]: tool["order"] for tool in tools if tool["order"]} == {"payments__refund": payload}
    assert warned(config) == []


def test_doctor_warns_of_an_order_by_what_no_argument_is(ordered: Callable[[str], str]) -> None:
    (text,) = warned(ordered("{by: /amuont}"))
    assert text.startswith("its schema names no argument at /amuont, so all its calls run one after the other")
