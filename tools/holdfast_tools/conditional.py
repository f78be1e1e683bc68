"""Tools that a server of the handshake era lists only to clients that can be asked: what is known of them, by kind.

A kind of client is what it declared of the capabilities that let a server ask back. Such a server is told that at the
handshake and may list by it, so that each kind must be listed in a session of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from holdfast_store.model.values import CatalogRecord, ConditionalTools, Json
from holdfast_tools import sdk

MAX_KINDS = 16
"""For how many kinds of clients a downstream's listings are kept; of more the one made longest ago goes."""


class Awaits(Enum):
    """What is missing of the tools that a downstream lists to one kind of client."""

    ANYTHING = "they were never listed"
    NEWS = "what it lists to everybody has changed since they were"


def awaits(record: CatalogRecord, listing: str, capabilities: Json) -> Awaits | None:
    """What is missing of the listing for clients that declare `capabilities`.

    `listing` is the digest of what is listed to everybody. Nothing is missing of a server that asks nobody back.
    """
    if not capabilities or sdk.is_modern(record.protocol_version):
        return None
    for listed in record.conditional:
        if listed.capabilities == capabilities:
            return None if listed.beside == listing else Awaits.NEWS
    return Awaits.ANYTHING


def learned(record: CatalogRecord, listing: str, capabilities: Json, tools: Sequence[Json]) -> CatalogRecord:
    """The record with all that was listed to clients that declare `capabilities`, beside the `listing` of now."""
    common = common_names(record)
    besides = tuple(tool for tool in tools if str(tool.get("name")) not in common)
    now = ConditionalTools(capabilities, besides, listing)
    if now in record.conditional:
        return record
    others = [listed for listed in record.conditional if listed.capabilities != capabilities]
    return replace(record, conditional=(*others, now)[-MAX_KINDS:])


def carried_over(record: CatalogRecord, before: CatalogRecord | None) -> CatalogRecord:
    """A fresh record, with what was known `before` of the conditional tools: a plain listing tells nothing of them."""
    if sdk.is_modern(record.protocol_version):
        return replace(record, conditional=())
    if before is None or before.identity != record.identity or record.conditional:
        return record
    return replace(record, conditional=before.conditional)


def common_names(record: CatalogRecord) -> frozenset[str]:
    """The names that are listed to everybody."""
    return frozenset(str(tool.get("name")) for tool in record.tools)


def least_first(record: CatalogRecord) -> Sequence[ConditionalTools]:
    """The kinds, each after those of which clients must declare less."""
    return sorted(record.conditional, key=_demand)


def _demand(listed: ConditionalTools) -> tuple[int, str]:
    text = json.dumps(listed.capabilities, sort_keys=True)
    return len(text), text


def alternatives(needs: Sequence[Json]) -> str:
    """What a client must declare, in words: ``elicitation, or roots and sampling``."""
    return ", or ".join(named(capabilities) for capabilities in needs)


def named(capabilities: Json) -> str:
    """Capabilities in words: ``elicitation (form, url) and sampling``."""
    words = [f"{name} ({', '.join(sorted(further))})" if further else name for name, further in capabilities.items()]
    *others, last = sorted(words)
    return f"{', '.join(others)} and {last}" if others else last
