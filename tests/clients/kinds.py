"""The clients, each with what it can do."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from _pytest.mark.structures import ParameterSet
from agents import pydantic_ai
from callers import Open, fastmcp, sdk
from inspector import inspector
from older_sdk import older_sdk


@dataclass(frozen=True, slots=True)
class Kind:
    """One client. `follows_tasks`: a long call stays with it, however long; `gives_up`: its patience can be set."""

    name: str
    open: Open
    follows_tasks: bool = False
    gives_up: bool = False


INSTALLED_HERE = (pytest.mark.long, pytest.mark.timeout(900))
"""Some install themselves first."""

SDK = (
    Kind("mcp-2-legacy", sdk("legacy"), gives_up=True),
    Kind("mcp-2-auto", sdk("auto"), gives_up=True),
    Kind("fastmcp", fastmcp, gives_up=True),
    Kind("pydantic-ai", pydantic_ai),
)
INSTALLED = (
    Kind("mcp-1", older_sdk, gives_up=True),
    Kind("inspector-legacy", inspector("legacy")),
    Kind("inspector-modern", inspector("modern"), follows_tasks=True),
)


def those(is_meant: Callable[[Kind], bool] = lambda kind: True) -> list[ParameterSet]:
    """The clients that are meant, as parameters of a test."""
    return [
        *(pytest.param(kind, id=kind.name) for kind in SDK if is_meant(kind)),
        *(pytest.param(kind, id=kind.name, marks=INSTALLED_HERE) for kind in INSTALLED if is_meant(kind)),
    ]
