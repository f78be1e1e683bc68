"""Tools that only some clients are shown, as the catalog knows them: whose they are, and what they take from nobody."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Preset
from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools.catalog import Catalog
from holdfast_tools.client import ClientProfile
from holdfast_tools.conditional import MAX_KINDS, Awaits, alternatives

ASKED: Json = {"elicitation": {}}
BOTH: Json = {"elicitation": {}, "sampling": {}}


def tool(name: Any, **rest: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}, **rest}


def record(downstream: str, *tools: Json, version: str = "2025-11-25", identity: str = "i") -> CatalogRecord:
    return CatalogRecord(downstream, identity, version, tools, seen_at=0.0)


def catalog(*records: CatalogRecord, prefix: bool = True) -> Catalog:
    made = Catalog(prefix=prefix, patterns=(), trust={}, policy=PolicySet(Preset.BALANCED, (), ApprovalTerms()))
    for one in records:
        made.update(one)
    return made


def shown(offered: Catalog, capabilities: Json) -> list[str]:
    client = ClientProfile(capabilities=capabilities)
    return [tool.name for tool in offered.tools() if tool.is_for(client)]


@pytest.mark.parametrize(
    ("declared", "needed", "enough"),
    [
        ({"elicitation": {}}, {"elicitation": {}}, True),
        ({"elicitation": {"form": {}, "url": {}}, "roots": {}}, {"elicitation": {"form": {}}}, True),
        ({"elicitation": {}}, {"elicitation": {"form": {}}}, False),
        ({"roots": {"listChanged": False}}, {"roots": {"listChanged": True}}, False),
        ({"roots": True}, {"roots": {}}, False),
        ({}, {"elicitation": {}}, False),
        ({"sampling": {}}, {}, True),
    ],
)
def test_a_client_declares_what_it_declares_at_least_so_far(declared: Json, needed: Json, enough: bool) -> None:
    assert ClientProfile(capabilities=declared).declares(needed) is enough


def test_only_what_is_listed_besides_needs_anything() -> None:
    offered = catalog(record("a", tool("plain")))
    assert offered.learn("a", ASKED, (tool("plain"), tool("ask")))
    assert shown(offered, {}) == ["a__plain"]
    assert shown(offered, ASKED) == ["a__ask", "a__plain"]


def test_of_the_kinds_that_see_a_tool_those_that_declare_least_are_kept() -> None:
    offered = catalog(record("a"))
    offered.learn("a", BOTH, (tool("ask"),))
    assert [tool.needs for tool in offered.tools()] == [(BOTH,)]
    offered.learn("a", ASKED, (tool("ask"),))
    assert [tool.needs for tool in offered.tools()] == [(ASKED,)]
    offered.learn("a", {"sampling": {}}, (tool("ask"),))
    (found,) = offered.tools()
    assert alternatives(found.needs) == "sampling, or elicitation"


@pytest.mark.parametrize("order", [(ASKED, BOTH), (BOTH, ASKED)])
def test_of_two_definitions_that_of_the_kind_that_declares_less_counts_whoever_came_first(order: Any) -> None:
    described = {str(ASKED): "by asking", str(BOTH): "by asking and thinking"}
    offered = catalog(record("a"))
    for capabilities in order:
        offered.learn("a", capabilities, (tool("ask", description=described[str(capabilities)]),))
    (found,) = offered.tools()
    assert found.definition["description"] == "by asking"
    (aside,) = offered.set_aside()
    assert "for clients that declare elicitation and sampling" in aside.reason


def test_it_takes_no_name_from_a_tool_that_everybody_is_shown() -> None:
    offered = catalog(record("a", tool("x")), record("b", tool("y")), prefix=False)
    offered.learn("b", ASKED, (tool("y"), tool("x")))
    assert shown(offered, ASKED) == ["x", "y"]
    assert offered.get("x") is offered.find("a__x")
    (aside,) = offered.set_aside()
    assert (aside.canonical, "only the one that every client is shown" in aside.reason) == ("b__x", True)


def test_of_two_such_tools_that_share_a_name_neither_is_offered() -> None:
    offered = catalog(record("a"), record("b"), prefix=False)
    offered.learn("a", ASKED, (tool("x"),))
    offered.learn("b", ASKED, (tool("x"),))
    assert offered.tools() == ()
    assert [entry.canonical for entry in offered.set_aside()] == ["a__x", "b__x"]


def test_a_broken_one_is_set_aside_and_takes_nothing_with_it() -> None:
    offered = catalog(record("a"))
    offered.learn("a", ASKED, ({"name": "odd"}, tool("ask"), tool({"no": "name"})))
    assert shown(offered, ASKED) == ["a__ask"]
    assert len(offered.set_aside()) == 2


def test_each_kind_is_awaited_until_it_is_known_and_again_after_a_change_of_what_everybody_sees() -> None:
    offered = catalog(record("a", tool("x"), tool("y")), record("new", version="2026-07-28"))
    assert offered.awaits("a", {}) is offered.awaits("new", ASKED) is offered.awaits("unknown", ASKED) is None
    assert offered.awaits("a", ASKED) is Awaits.ANYTHING
    offered.learn("a", ASKED, (tool("x"), tool("y")))
    assert offered.awaits("a", ASKED) is None
    assert offered.awaits("a", BOTH) is Awaits.ANYTHING
    offered.update(record("a", tool("y"), tool("x")))
    assert offered.awaits("a", ASKED) is None, "the order is nothing"
    offered.update(record("a", tool("y")))
    assert offered.awaits("a", ASKED) is Awaits.NEWS


def test_what_was_known_stays_with_the_same_server_of_the_same_era_only() -> None:
    for later, kept in (
        (record("a", tool("x")), True),
        (record("a", identity="another"), False),
        (record("a", version="2026-07-28"), False),
    ):
        offered = catalog(record("a"))
        offered.learn("a", ASKED, (tool("ask"),))
        offered.update(later)
        assert ("a__ask" in shown(offered, ASKED)) is kept


def test_a_record_brings_all_that_was_known_to_the_next_start() -> None:
    offered = catalog(record("a", tool("x")))
    offered.learn("a", ASKED, (tool("x"), tool("ask")))
    again = catalog(*offered.records)
    assert [(tool.canonical, tool.digest, tool.needs) for tool in again.tools()] == [
        (tool.canonical, tool.digest, tool.needs) for tool in offered.tools()
    ]
    assert again.awaits("a", ASKED) is None


def test_learning_the_same_again_is_no_news_and_a_change_is_told_once() -> None:
    offered = catalog(record("a"))
    told: list[int] = []
    offered.subscribe(lambda: told.append(offered.version))
    assert offered.learn("a", ASKED, (tool("ask"),))
    assert not offered.learn("a", ASKED, (tool("ask"),))
    assert not offered.learn("unknown", ASKED, (tool("ask"),))
    assert len(told) == 1


def test_a_config_that_names_the_same_tools_lists_the_same() -> None:
    offered = catalog(record("a"))
    offered.learn("a", ASKED, (tool("ask"),))
    told: list[int] = []
    offered.subscribe(lambda: told.append(offered.version))
    offered.reconfigure(offered.records, prefix=True, patterns=(), trust={})
    assert not told
    offered.reconfigure([replace(one, conditional=()) for one in offered.records], prefix=True, patterns=(), trust={})
    assert len(told) == 1


def test_kinds_are_bounded_and_the_one_listed_longest_ago_goes() -> None:
    offered = catalog(record("a"))
    for number in range(MAX_KINDS + 1):
        offered.learn("a", {"sampling": {f"s{number:02}": {}}}, (tool(f"t{number:02}"),))
    names = [tool.original_name for tool in offered.tools()]
    assert names == [f"t{number:02}" for number in range(1, MAX_KINDS + 1)]


def test_a_tool_that_is_for_others_is_not_suggested() -> None:
    offered = catalog(record("a", tool("plain")))
    offered.learn("a", ASKED, (tool("ask_person"),))
    assert offered.nearest("a__ask_persons") != "a__ask_person"
    assert offered.nearest("a__ask_persons", ClientProfile(capabilities=ASKED)) == "a__ask_person"
