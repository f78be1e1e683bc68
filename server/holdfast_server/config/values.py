"""A config that was read and found good: frozen, complete, with every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast_policy.values import ApprovalTerms, Preset, Rule
from holdfast_store.contract import Retention
from holdfast_store.model.values import Principal
from holdfast_tools.downstream.spec import DownstreamSpec
from holdfast_tools.settings import ToolPattern


@dataclass(frozen=True, slots=True)
class PrincipalEntry:
    """A configured principal. Of its bearer token only the SHA-256 (hex) is kept; None where it has none."""

    principal: Principal
    token_sha256: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a config file says.

    `path` is as it was given; `digest` is the SHA-256 (hex) of the file's bytes. `store_url` is absolute. `trust`
    names for a downstream the hints whose every value is believed; a downstream that it does not hold has the
    default trust. `variables` maps each environment variable that the file refers to, and that has a value, to the
    SHA-256 (hex) of that.
    `warnings` are sentences, ``file:line: cause; mend``.
    """

    path: Path
    digest: str
    downstreams: tuple[DownstreamSpec, ...]
    store_url: str
    preset: Preset
    rules: tuple[Rule, ...]
    approval_defaults: ApprovalTerms
    patterns: tuple[ToolPattern, ...]
    trust: Mapping[str, frozenset[str]]
    prefix: bool
    inline_wait_s: float
    principals: tuple[PrincipalEntry, ...]
    retention: Retention
    idle_exit_s: float
    max_arguments_bytes: int
    max_result_bytes: int
    answer_within_s: float
    variables: Mapping[str, str]
    warnings: tuple[str, ...]
