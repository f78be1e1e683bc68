"""Which tools are offered, under which names, and why the others are not."""

from typing import Any

import pytest

from holdfast_policy.decide import PolicySet
from holdfast_policy.values import ApprovalTerms, Effect, Match, Preset, Rule
from holdfast_store.model.values import CatalogRecord
from holdfast_tools.catalog import Catalog
from holdfast_tools.settings import ToolPattern

PLAIN: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}


def tool(name: Any, schema: Any = PLAIN, **rest: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": schema, **rest}


def record(downstream: str, *tools: dict[str, Any], version: str = "2025-11-25", identity: str = "i") -> CatalogRecord:
    return CatalogRecord(downstream, identity, version, tools, seen_at=0.0)


def catalog(
    *,
    prefix: bool = True,
    patterns: tuple[ToolPattern, ...] = (),
    rules: tuple[Rule, ...] = (),
    **trust: frozenset[str],
) -> Catalog:
    policy = PolicySet(Preset.BALANCED, rules, ApprovalTerms())
    return Catalog(prefix=prefix, patterns=patterns, trust=trust, policy=policy)


def remove(offered: Catalog, downstream: str) -> None:
    """Go on without a downstream, by the same config."""
    kept = [one for one in offered.records if one.downstream != downstream]
    offered.reconfigure(kept, prefix=offered.prefix, patterns=(), trust={})


def reasons(offered: Catalog) -> dict[str, str]:
    return {entry.canonical: entry.reason for entry in offered.set_aside()}


def test_a_tool_is_offered_under_its_canonical_name_and_otherwise_as_it_was_defined() -> None:
    offered = catalog()
    definition = tool("pay", {**PLAIN, "$defs": {"x": {}}}, title="Pay", outputSchema={"type": "object"}, extra=[1])
    offered.update(record("bank", definition))
    (found,) = offered.tools()
    assert found is offered.get("bank__pay") is offered.find("bank__pay")
    assert found.wire() == {**definition, "name": "bank__pay"}
    assert (found.name, found.original_name, found.downstream) == ("bank__pay", "pay", "bank")
    assert [str(problem) for problem in found.schema.problems({"m": 1})] == [
        '/: unknown property "m"; not given yet: "n"'
    ]


def test_without_prefix_a_tool_keeps_its_name_and_its_canonical_name() -> None:
    offered = catalog(prefix=False)
    offered.update(record("bank", tool("pay")))
    assert offered.get("pay") is offered.find("bank__pay")
    assert offered.get("bank__pay") is None


def test_a_tool_may_have_a_chosen_name_which_may_not_be_anothers() -> None:
    patterns = (ToolPattern("bank__pay", {"name": "pay"}), ToolPattern("bank__refund", {"name": "shop__sell"}))
    offered = catalog(patterns=patterns)
    assert offered.could_offer("bank", "pay")
    assert not offered.could_offer("shop", "pay")
    offered.update(record("bank", tool("pay"), tool("refund")))
    assert offered.get("pay") is offered.find("bank__pay")
    assert offered.get("bank__pay") is None
    offered.update(record("shop", tool("sell")))
    assert offered.get("shop__sell") is None
    assert "choose another `name`" in reasons(offered)["bank__refund"]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_tools_that_share_a_name_neither_is_offered_whoever_came_first(order: tuple[str, str]) -> None:
    offered = catalog(prefix=False)
    for downstream in order:
        offered.update(record(downstream, tool("search"), tool(f"only_{downstream}")))
    assert [found.name for found in offered.tools()] == ["only_a", "only_b"]
    told = reasons(offered)
    assert told.keys() == {"a__search", "b__search"}
    assert "'search' of 'a' and 'search' of 'b'" in told["a__search"]
    assert "prefix: true" in told["a__search"]
    assert offered.get("search") is None
    assert offered.find("a__search") is not None


def test_a_name_is_offered_again_once_it_is_nobody_elses() -> None:
    offered = catalog(prefix=False)
    offered.update(record("a", tool("search")))
    offered.update(record("b", tool("search")))
    remove(offered, "b")
    assert offered.get("search") is offered.find("a__search")
    assert offered.set_aside() == ()


def test_canonical_names_that_coincide_are_set_aside() -> None:
    offered = catalog()
    offered.update(record("a", tool("b__c")))
    offered.update(record("a__b", tool("c")))
    assert offered.tools() == ()
    assert offered.find("a__b__c") is None
    assert len(offered.set_aside()) == 2


@pytest.mark.parametrize(
    ("definition", "canonical", "words"),
    [
        (tool("bad", {"type": "objekt"}), "s__bad", "inputSchema is broken"),
        (tool("remote", {"$ref": "https://example.com/x"}), "s__remote", "nothing is ever fetched"),
        (tool("none", None), "s__none", "no inputSchema"),
        (tool("with space"), "s__with space", "MCP does not allow the name"),
        (tool("x" * 128), f"s__{'x' * 128}", "MCP does not allow the name"),
        (tool(7), "s__7", "without a name"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_set_aside_and_the_others_work(
    definition: dict[str, Any], canonical: str, words: str
) -> None:
    offered = catalog()
    offered.update(record("s", definition, tool("good")))
    assert [found.name for found in offered.tools()] == ["s__good"]
    assert words in reasons(offered)[canonical]


def test_names_of_holdfasts_own_tools_are_not_to_be_had() -> None:
    unprefixed = catalog(prefix=False)
    unprefixed.update(record("s", tool("holdfast__get_task")))
    assert "Holdfast's own" in reasons(unprefixed)["s__holdfast__get_task"]
    prefixed = catalog()
    prefixed.update(record("holdfast", tool("get_task")))
    assert "Holdfast's own" in reasons(prefixed)["holdfast__get_task"]


def test_a_name_listed_twice_is_one_tool_if_it_is_the_same_and_none_if_it_is_not() -> None:
    offered = catalog()
    offered.update(record("s", tool("same"), tool("same"), tool("other"), tool("other", title="differs")))
    assert [found.name for found in offered.tools()] == ["s__same"]
    assert "twice" in reasons(offered)["s__other"]


def test_a_header_declaration_that_the_stateless_era_forbids_sets_a_tool_aside_there_only() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "x-mcp-header": "N"}}}
    offered = catalog()
    offered.update(record("s", tool("t", schema), version="2025-11-25"))
    assert offered.get("s__t") is not None
    offered.update(record("s", tool("t", schema), version="2026-07-28"))
    assert offered.get("s__t") is None
    assert "x-mcp-header" in reasons(offered)["s__t"]


def test_the_digest_is_of_the_definition_and_not_of_its_key_order() -> None:
    offered = catalog()
    offered.update(record("s", {"name": "t", "inputSchema": PLAIN}))
    first = offered.find("s__t")
    offered.update(record("s", {"inputSchema": PLAIN, "name": "t"}))
    second = offered.find("s__t")
    offered.update(record("s", tool("t", description="now it says something")))
    third = offered.find("s__t")
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.digest == second.digest != third.digest


def test_the_version_grows_with_changes_only_and_listeners_hear_of_each() -> None:
    offered = catalog()
    heard: list[int] = []
    stop = offered.subscribe(lambda: heard.append(offered.version))
    offered.update(record("s", tool("t")))
    offered.update(record("s", tool("t")))
    offered.update(record("s", tool("u")))
    stop()
    remove(offered, "s")
    assert heard == [1, 2]
    assert offered.version == 3
    assert not offered.knows("s")


def test_another_config_is_told_once_and_only_where_a_listing_differs() -> None:
    offered = catalog()
    offered.update(record("a", tool("x")))
    offered.update(record("b", tool("y")))
    heard: list[list[str]] = []
    offered.subscribe(lambda: heard.append([found.name for found in offered.tools()]))

    strict = ToolPattern("a__x", {"strict": False, "timeout_s": 3.0})
    offered.reconfigure(offered.records, prefix=True, patterns=(strict,), trust={})
    assert heard == []
    found = offered.find("a__x")
    assert found is not None
    assert found.settings.timeout_s == 3.0
    assert found.schema.problems({"n": 1, "more": 2}) == ()

    offered.reconfigure([record("a", tool("x")), record("c", tool("z"))], prefix=False, patterns=(), trust={})
    assert heard == [["x", "z"]]
    assert not offered.knows("b")


def test_annotations_are_judged_anew_by_another_config() -> None:
    offered = catalog()
    offered.update(record("a", tool("x", annotations={"idempotentHint": True})))
    offered.reconfigure(offered.records, prefix=True, patterns=(), trust={"a": frozenset({"idempotentHint"})})
    found = offered.find("a__x")
    assert found is not None
    assert found.annotations.idempotent


def test_an_empty_listing_is_known_too() -> None:
    offered = catalog()
    assert not offered.knows("s")
    offered.update(record("s"))
    assert offered.knows("s")


def test_a_broken_output_schema_is_kept_from_clients_and_takes_nothing_else_away() -> None:
    offered = catalog()
    offered.update(record("bank", tool("pay", outputSchema={"type": 1}), tool("look", outputSchema={"type": "object"})))
    look, pay = offered.tools()
    assert look.output is not None
    assert look.output_problem is None
    assert pay.output is None
    assert pay.output_problem
    assert "outputSchema" not in pay.wire()
    assert pay.definition["outputSchema"] == {"type": 1}


def test_the_nearest_name_is_suggested() -> None:
    offered = catalog()
    offered.update(record("git", tool("git_status"), tool("git_commit")))
    assert offered.nearest("git__git-comit") == "git__git_commit"
    assert offered.nearest("something_else_entirely") is None


def test_settings_trust_and_overrides_make_the_effective_annotations() -> None:
    patterns = (
        ToolPattern("s__*", {"strict": False}),
        ToolPattern("s__write", {"annotations": {"destructiveHint": False}}),
    )
    hints = {"readOnlyHint": True, "idempotentHint": True}
    offered = catalog(patterns=patterns, trusting=frozenset({"idempotentHint"}))
    offered.update(record("s", tool("read", annotations=hints), tool("write"), tool("odd", annotations="nonsense")))
    offered.update(record("trusting", tool("read", annotations=hints)))
    read, write, odd = (offered.find(f"s__{name}") for name in ("read", "write", "odd"))
    trusted = offered.find("trusting__read")
    assert read is not None
    assert write is not None
    assert odd is not None
    assert trusted is not None
    assert read.annotations.read_only
    assert not read.annotations.idempotent
    assert not write.annotations.destructive
    assert odd.annotations.destructive
    assert (trusted.annotations.read_only, trusted.annotations.idempotent) == (False, True)
    assert read.schema.problems({"unknown": 1}) == ()
    assert trusted.schema.problems({"unknown": 1}) != ()


def test_rules_that_do_not_fit_a_schema_are_named_with_the_tool() -> None:
    rule = Rule("big", Effect.DENY, Match(tool="bank__*"), when="args.amount > 100")
    offered = catalog(rules=(rule,))
    offered.update(record("bank", tool("pay", {"properties": {"amount": {"type": "number"}}}), tool("count")))
    pay, count = offered.find("bank__pay"), offered.find("bank__count")
    assert pay is not None
    assert count is not None
    assert pay.misfits == ()
    assert count.misfits == ("big",)
