"""Agents of pydantic-ai: its test model, and a model that knows nothing but the words it reads."""

import json
import re

import anyio
from agents import told, toolset_for
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from support.workspace import Workspace
from system.asking import DEADLINE_S, POLL_S, Operator

NEXT_CALL = re.compile(r"call (holdfast__\w+) with (\{[^}]*\})")
TURNS = 50


async def test_its_test_model_sees_every_tool_and_its_calls_fit_their_schemas(where, workspace):
    workspace.write_config()
    model = TestModel(call_tools=["ledger__read", "ledger__write"])
    async with toolset_for(where()) as toolset:
        run = await Agent(model, toolsets=[toolset]).run("use your tools")
    assert model.last_model_request_parameters is not None
    seen = {tool.name for tool in model.last_model_request_parameters.function_tools}
    assert {"ledger__read", "ledger__write", "holdfast__wait_task"} < seen
    (effect,) = workspace.ledger.effects()
    assert json.loads(run.output)["ledger__write"] == f"write {effect.arguments['n']} as {effect.id}"


def obedient(tool: str, **arguments: int) -> FunctionModel:
    """A model that calls `tool`, then does what the words of each answer say, until they say nothing more to do."""

    def decide(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = told(messages)
        if answer is None:
            return ModelResponse([ToolCallPart(tool, arguments)])
        following = NEXT_CALL.search(str(answer.content))
        if following is None or len(messages) > TURNS:
            return ModelResponse([TextPart(str(answer.content))])
        return ModelResponse([ToolCallPart(following[1], json.loads(following[2]))])

    return FunctionModel(decide)


async def approve_the_first(operator: Operator) -> None:
    """Approve what is parked first, once it is."""
    with anyio.fail_after(DEADLINE_S):
        while not (parked := (await operator.ask("list_approvals"))["approvals"]):
            await anyio.sleep(POLL_S)
    await operator.approve(parked[0]["call_id"])


async def test_a_model_that_follows_the_words_brings_long_and_parked_calls_to_their_results(
    where, workspace: Workspace, operator
):
    workspace.write_config({"mcpServers": {"ledger": workspace.ledger_downstream()}, "inline_wait": "500ms"})
    async with toolset_for(where()) as toolset, anyio.create_task_group() as tasks:
        long = await Agent(obedient("ledger__write", n=1, delay_ms=2000), toolsets=[toolset]).run("write")
        tasks.start_soon(approve_the_first, operator)
        parked = await Agent(obedient("ledger__destroy", n=2), toolsets=[toolset]).run("destroy")
    write, destroy = workspace.ledger.effects()
    assert long.output == f"write 1 as {write.id}"
    assert parked.output == f"destroy 2 as {destroy.id}"
