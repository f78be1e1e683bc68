"""A pydantic-ai agent as a client: the calls are its model's, the results what that model reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from callers import DEADLINE_S, Caller, Said, Where, fastmcp_transport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def toolset_for(where: Where) -> MCPToolset[None]:
    return MCPToolset(
        fastmcp_transport(where), tool_error_behavior="failed", init_timeout=DEADLINE_S, read_timeout=DEADLINE_S
    )


def told(messages: list[ModelMessage]) -> ToolReturnPart | RetryPromptPart | None:
    """What the model was told last of a tool, if anything."""
    parts = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart | RetryPromptPart)]
    return parts[-1] if parts else None


class AgentCaller:
    """Each call is a run of an agent whose model makes just that call."""

    def __init__(self, toolset: MCPToolset[None]) -> None:
        self._toolset = toolset

    async def names(self) -> set[str]:
        return {tool.name for tool in await self._toolset.list_tools()}

    async def call(self, tool: str, arguments: dict[str, Any], patience_s: float | None = None) -> Said:
        if patience_s is not None:
            raise NotImplementedError("the patience of this client is its connection's")
        seen: list[ToolReturnPart | RetryPromptPart] = []

        def decide(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            answer = told(messages)
            if answer is None:
                return ModelResponse([ToolCallPart(tool, arguments)])
            seen.append(answer)
            return ModelResponse([TextPart("done")])

        await Agent(FunctionModel(decide), toolsets=[self._toolset]).run("go")
        (answer,) = seen
        failed = isinstance(answer, RetryPromptPart) or answer.outcome == "failed"
        return Said(str(answer.content), failed)


@asynccontextmanager
async def pydantic_ai(where: Where) -> AsyncIterator[Caller]:
    async with toolset_for(where) as toolset:
        yield AgentCaller(toolset)
