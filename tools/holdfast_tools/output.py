"""Results held against the output schema that their tool declared.

A result that does not fit, or has no structured content at all, is an error that says so: whoever asked was promised
something else, and clients that check would drop it. The tool has run all the same, so nothing is tried again, and
what came stays in the outcome.
"""

from collections.abc import Sequence
from typing import Any

from holdfast_store.model.values import Json, Outcome, OutcomeKind
from holdfast_tools.catalog import Tool
from holdfast_tools.schema import Problem

RECEIVED = "dev.holdfast/received"
"""The `_meta` key under which a refused result keeps the structured content that came."""


def checked(tool: Tool, outcome: Outcome) -> Outcome:
    """`outcome`, or the tool error that it amounts to where its structured content is not what `tool` promised.

    Errors promise nothing and pass (specification 2026-07-28, server/tools, "Output Schema"), as does every result of
    a tool that declares no schema, a broken one, or has `check_output: off`.
    """
    if outcome.kind is not OutcomeKind.RESULT or tool.output is None or not tool.settings.check_output:
        return outcome
    if "structuredContent" not in outcome.payload:
        missing = Problem("", "there is no structuredContent, which a tool with an output schema must give")
        return _refused(tool, outcome.payload, (missing,))
    problems = tool.output.problems(outcome.payload["structuredContent"])
    return _refused(tool, outcome.payload, problems) if problems else outcome


def _refused(tool: Tool, result: Json, problems: Sequence[Problem]) -> Outcome:
    lines = "\n".join(f"- {problem.pointer or '/'}: {problem.message}" for problem in problems)
    sentence = (
        f"{tool.name} ran, and its result does not fit the output schema that it declares, so it may not be what it "
        f"seems. Do not repeat the call for that. What is wrong with its structured content:\n{lines}"
    )
    content, carried = result.get("content"), result.get("_meta")
    refused = {name: value for name, value in result.items() if name != "structuredContent"}
    refused["content"] = [{"type": "text", "text": sentence}, *(content if isinstance(content, list) else ())]
    refused["isError"] = True
    if "structuredContent" in result:
        received: dict[str, Any] = {"structuredContent": result["structuredContent"]}
        refused["_meta"] = {**(carried if isinstance(carried, dict) else {}), RECEIVED: received}
    return Outcome(OutcomeKind.TOOL_ERROR, refused)
