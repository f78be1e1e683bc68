"""Every tool of every downstream: under which name it is offered, pinned as the downstream defined it.

A tool's *canonical* name is ``server__tool`` whatever names clients see; policy, patterns and the store use it. What
cannot be offered is set aside with a reason, and takes nothing else with it: a broken schema, a name that MCP does
not allow, a name that two tools would share. Of two tools that share a name neither is offered under it: what a name
means must not hang on which downstream connected first.

A server of the handshake era may list more to a client that declared that it can be asked something. Such a tool is in
the catalog like any other, with what its clients must declare: only they are shown it and may call it. It takes no name
from a tool that everybody sees.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast_policy.annotations import Annotations, effective
from holdfast_policy.decide import PolicySet
from holdfast_store.model.values import CatalogRecord, Json
from holdfast_tools import sdk
from holdfast_tools.client import SILENT, ClientProfile
from holdfast_tools.conditional import Awaits, awaits, carried_over, common_names, learned, least_first, named
from holdfast_tools.schema import BrokenSchema, ToolSchema
from holdfast_tools.schema import digest_of as digest_of_text
from holdfast_tools.schema.wording import nearest
from holdfast_tools.settings import TaskUse, ToolPattern, ToolSettings, settings_for

log = logging.getLogger("holdfast.catalog")

RESERVED_PREFIX = "holdfast__"
"""Names of Holdfast's own tools: no downstream may offer one."""

_PREFIX = "set `naming: {prefix: true}`"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""What MCP allows as a tool's name (specification 2025-11-25, server/tools, "Tool Names")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool that can be called.

    `name` is what clients call it, `original_name` what its downstream does. `definition` is the wire form as it was
    received, `digest` the SHA-256 of its canonical JSON. `misfits` are the ids of rules that do not fit its schema.
    `output` is its output schema, None where it declares none or a broken one; `output_problem` says what is broken.
    `needs` holds the capabilities of which a client must declare one set; a tool that everybody sees has none.
    """

    name: str
    canonical: str
    original_name: str
    downstream: str
    identity: str
    definition: Json = field(repr=False)
    digest: str
    schema: ToolSchema = field(repr=False)
    annotations: Annotations
    settings: ToolSettings
    misfits: tuple[str, ...] = ()
    output: ToolSchema | None = field(default=None, repr=False)
    output_problem: str | None = None
    needs: tuple[Json, ...] = ()

    def is_for(self, client: ClientProfile) -> bool:
        """Whether this client is shown the tool and may call it."""
        return not self.needs or any(client.declares(needed) for needed in self.needs)

    def wire(self) -> Json:
        """The definition as clients see it: the downstream's own, under the exposed name.

        A broken output schema is left out: clients that check it would drop the whole list for it.
        """
        shown = {**self.definition, "name": self.name}
        if self.output_problem is not None:
            del shown["outputSchema"]
        return shown


@dataclass(frozen=True, slots=True)
class SetAside:
    """A tool that is not offered, and why."""

    canonical: str
    downstream: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one downstream offers, seen by itself. `listing` is the digest of what it lists to everybody."""

    protocol_version: str
    listing: str
    tools: tuple[Tool, ...]
    set_aside: tuple[SetAside, ...]


class Catalog:
    """The tools of all downstreams. What it holds follows from the records and the config alone.

    `version` counts up whenever any of it may have changed.
    """

    def __init__(
        self,
        *,
        prefix: bool,
        patterns: Sequence[ToolPattern],
        trust: Mapping[str, frozenset[str]],
        policy: PolicySet,
    ) -> None:
        self.prefix = prefix
        self.version = 0
        self._patterns = tuple(patterns)
        self._trust = dict(trust)
        self._policy = policy
        self._records: dict[str, CatalogRecord] = {}
        self._offers: dict[str, _Offer] = {}
        self._tools: tuple[Tool, ...] = ()
        self._by_name: dict[str, Tool] = {}
        self._by_canonical: dict[str, Tool] = {}
        self._set_aside: tuple[SetAside, ...] = ()
        self._listeners: list[Callable[[], None]] = []

    def update(self, record: CatalogRecord) -> None:
        """Replace the tools of the record's downstream; what cannot be offered is set aside.

        A record without conditional tools says nothing of them: those known of the same downstream stay.
        """
        record = carried_over(record, self._records.get(record.downstream))
        known = self._offers.get(record.downstream)
        offer = self._offer(record, known)
        self._records[record.downstream] = record
        if offer != known:
            self._offers[record.downstream] = offer
            self._arrange()
            self._tell()

    def learn(self, downstream: str, capabilities: Json, tools: Sequence[Json]) -> bool:
        """Take in all that `downstream` lists to clients that declare `capabilities`. Whether that was news.

        Nothing is taken in while it is not known what it lists to everybody.
        """
        record, offer = self._records.get(downstream), self._offers.get(downstream)
        if record is None or offer is None:
            return False
        now = learned(record, offer.listing, capabilities, tools)
        self.update(now)
        return now != record

    def awaits(self, downstream: str, capabilities: Json) -> Awaits | None:
        """What must still be asked of `downstream` for clients that declare `capabilities`.

        Nothing, where nothing at all is known of it.
        """
        record, offer = self._records.get(downstream), self._offers.get(downstream)
        return None if record is None or offer is None else awaits(record, offer.listing, capabilities)

    def reconfigure(
        self,
        records: Iterable[CatalogRecord],
        *,
        prefix: bool,
        patterns: Sequence[ToolPattern],
        trust: Mapping[str, frozenset[str]],
    ) -> None:
        """Offer what `records` hold and nothing else, by another config; the policy is asked anew as well.

        Who subscribed is told once, and only where what is listed differs.
        """
        before = self._listed()
        self.prefix, self._patterns, self._trust = prefix, tuple(patterns), dict(trust)
        self._records = {record.downstream: record for record in records}
        self._offers = {name: self._offer(record, None) for name, record in self._records.items()}
        self._arrange()
        if self._listed() != before:
            self._tell()

    @property
    def records(self) -> Sequence[CatalogRecord]:
        """What was last heard of each downstream."""
        return tuple(self._records.values())

    def record_of(self, downstream: str) -> CatalogRecord | None:
        """What is known of one downstream."""
        return self._records.get(downstream)

    def knows(self, downstream: str) -> bool:
        """Whether anything is known of what `downstream` offers, be it nothing."""
        return downstream in self._offers

    def could_offer(self, downstream: str, exposed_name: str) -> bool:
        """Whether a tool of `downstream`, of which nothing need be known yet, could have this name."""
        prefix = f"{downstream}__"
        chosen = (p for p in self._patterns if p.fields.get("name") == exposed_name)
        return not self.prefix or exposed_name.startswith(prefix) or any(p.glob.startswith(prefix) for p in chosen)

    def get(self, exposed_name: str) -> Tool | None:
        """The tool that clients call by this name."""
        return self._by_name.get(exposed_name)

    def find(self, canonical: str) -> Tool | None:
        """The tool of this canonical name, also where its exposed name is another's too."""
        return self._by_canonical.get(canonical)

    def tools(self) -> Sequence[Tool]:
        """All tools on offer, by name."""
        return self._tools

    def set_aside(self) -> Sequence[SetAside]:
        """All tools that are not on offer, by canonical name."""
        return self._set_aside

    def nearest(self, name: str, client: ClientProfile = SILENT) -> str | None:
        """The exposed name, of those that are for `client`, that `name` most likely means, or None."""
        return nearest(name, [tool.name for tool in self._tools if tool.is_for(client)])

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after each change of what is listed; the answer ends that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _offer(self, record: CatalogRecord, known: _Offer | None) -> _Offer:
        same_era = known is not None and known.protocol_version == record.protocol_version
        kept_tools = known.tools if known is not None and same_era else ()
        compiled = {tool.digest: tool for tool in kept_tools if tool.identity == record.identity}
        digests = [digest_of(definition) for definition in record.tools]
        tools: dict[str, Tool] = {}
        set_aside: dict[str, SetAside] = {}
        for definition, digest in zip(record.tools, digests, strict=True):
            name = definition.get("name")
            canonical = f"{record.downstream}__{name}"
            try:
                tool = self._compiled(record, definition, compiled.get(digest))
            except _NotOffered as error:
                set_aside[canonical] = SetAside(canonical, record.downstream, str(error))
                continue
            twin = tools.setdefault(canonical, tool)
            if twin.digest != tool.digest:
                reason = (
                    f"the downstream {record.downstream!r} lists the name {name!r} twice, with different definitions"
                )
                set_aside[canonical] = SetAside(canonical, record.downstream, reason)
        kept = tuple(tool for canonical, tool in tools.items() if canonical not in set_aside)
        conditional, not_offered = self._conditional(record, compiled)
        listing = digest_of_text("".join(sorted(digests)))
        return _Offer(record.protocol_version, listing, (*kept, *conditional), (*set_aside.values(), *not_offered))

    def _conditional(
        self, record: CatalogRecord, compiled: Mapping[str, Tool]
    ) -> tuple[Sequence[Tool], Sequence[SetAside]]:
        """The tools that only some clients are shown, each with what those must declare.

        Where a tool is defined differently for one kind than for another, the definition for the kind that must
        declare least counts: which kind came first must not decide it.
        """
        common = common_names(record)
        tools: dict[str, Tool] = {}
        set_aside: dict[str, SetAside] = {}
        for listed in least_first(record):
            for definition in listed.tools:
                name = definition.get("name")
                if str(name) in common:
                    continue
                canonical = f"{record.downstream}__{name}"
                try:
                    tool = self._compiled(record, definition, compiled.get(digest_of(definition)))
                except _NotOffered as error:
                    set_aside[canonical] = SetAside(canonical, record.downstream, str(error))
                    continue
                known = tools.setdefault(canonical, tool)
                if known.digest == tool.digest:
                    tools[canonical] = _also_for(known, listed.capabilities)
                else:
                    reason = f"as it is defined for clients that declare {named(listed.capabilities)}: there is another"
                    set_aside[canonical] = SetAside(canonical, record.downstream, reason)
        return tuple(tools.values()), tuple(set_aside.values())

    def _compiled(self, record: CatalogRecord, definition: Json, known: Tool | None) -> Tool:
        """The tool as everybody might see it; `known` has the same definition."""
        if known is None:
            return self._compile(record, definition)
        return replace(known, needs=()) if known.needs else known

    def _compile(self, record: CatalogRecord, definition: Json) -> Tool:
        name = definition.get("name")
        if not isinstance(name, str) or not name:
            raise _NotOffered("the downstream lists it without a name")
        canonical = f"{record.downstream}__{name}"
        settings = settings_for(canonical, self._patterns)
        exposed = settings.name or (canonical if self.prefix else name)
        _check_name(canonical, exposed)
        schema = definition.get("inputSchema")
        if schema is None:
            raise _NotOffered("it has no inputSchema")
        header_problem = sdk.header_problem(record.protocol_version, schema)
        if header_problem is not None:
            raise _NotOffered(f"its inputSchema is broken: {header_problem}")
        try:
            compiled = ToolSchema.compile(schema, strict=settings.strict)
        except BrokenSchema as error:
            raise _NotOffered(f"its inputSchema is broken: {error}") from error
        hints = definition.get("annotations")
        output, output_problem = _output_schema(definition.get("outputSchema"))
        return Tool(
            name=exposed,
            canonical=canonical,
            original_name=name,
            downstream=record.downstream,
            identity=record.identity,
            definition=definition,
            digest=digest_of(definition),
            schema=compiled,
            annotations=effective(
                settings.annotations, hints if isinstance(hints, dict) else None, self._trust.get(record.downstream)
            ),
            settings=settings,
            misfits=self._misfits(canonical, record.downstream, schema),
            output=output,
            output_problem=output_problem,
        )

    def _misfits(self, canonical: str, downstream: str, schema: Json) -> tuple[str, ...]:
        misfits = self._policy.misfits(canonical, downstream, schema)
        for rule, why in misfits.items():
            log.warning("rule %s does not fit %s, so that its calls ask for approval: %s", rule, canonical, why)
        return tuple(misfits)

    def _arrange(self) -> None:
        offered = [tool for _, offer in sorted(self._offers.items()) for tool in offer.tools]
        by_name = _grouped(offered, lambda tool: tool.name)
        by_canonical = _grouped(offered, lambda tool: tool.canonical)
        meant = {name: _meant(tools) for name, tools in by_name.items()}
        set_aside = [entry for offer in self._offers.values() for entry in offer.set_aside]
        set_aside.extend(
            _collided(tool, tools, meant[name])
            for name, tools in by_name.items()
            for tool in tools
            if tool is not meant[name]
        )
        self._by_name = {name: tool for name, tool in meant.items() if tool is not None}
        self._by_canonical = {name: tool for name, tools in by_canonical.items() if (tool := _meant(tools)) is not None}
        self._tools = tuple(tool for _, tool in sorted(self._by_name.items()))
        self._set_aside = tuple(sorted(set_aside, key=lambda entry: (entry.canonical, entry.downstream)))
        self.version += 1

    def _listed(self) -> list[tuple[Json, TaskUse, tuple[Json, ...]]]:
        """What a listing is made of."""
        return [(tool.wire(), tool.settings.task, tool.needs) for tool in self._tools]

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class _NotOffered(Exception):
    """Why a tool is set aside."""


def digest_of(definition: Json) -> str:
    """The SHA-256 of a definition's canonical JSON, in hex."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return digest_of_text(text)


def _output_schema(schema: Any) -> tuple[ToolSchema | None, str | None]:
    """The compiled output schema, or what is broken about it; neither where there is none.

    A broken one takes nothing away: the tool can be called, and its results are not checked.
    """
    if schema is None:
        return None, None
    try:
        return ToolSchema.compile(schema, strict=False), None
    except BrokenSchema as error:
        return None, str(error)


def _check_name(canonical: str, exposed: str) -> None:
    if canonical.startswith(RESERVED_PREFIX) or exposed.startswith(RESERVED_PREFIX):
        raise _NotOffered(f"names that begin with {RESERVED_PREFIX!r} are Holdfast's own")
    if not _NAME.fullmatch(exposed):
        raise _NotOffered(
            f"MCP does not allow the name {exposed!r}: 1 to 128 letters, digits, underscores, hyphens and dots"
        )


def _also_for(tool: Tool, capabilities: Json) -> Tool:
    """The tool, shown to clients that declare `capabilities` too; nothing new where less was needed already."""
    if tool.needs and tool.is_for(ClientProfile(capabilities=capabilities)):
        return tool
    return replace(tool, needs=(*tool.needs, capabilities))


def _meant(tools: Sequence[Tool]) -> Tool | None:
    """Which of the tools that share a name it means, if any."""
    for_everybody = [tool for tool in tools if not tool.needs] or tools
    return for_everybody[0] if len(for_everybody) == 1 else None


def _collided(tool: Tool, tools: Sequence[Tool], meant: Tool | None) -> SetAside:
    owners = " and ".join(f"{other.original_name!r} of {other.downstream!r}" for other in tools)
    chosen = any(other.settings.name for other in tools)
    mend = "choose another `name`" if chosen else "rename a server" if tool.name == tool.canonical else _PREFIX
    offered = "neither is offered" if meant is None else "only the one that every client is shown is offered"
    reason = f"the name {tool.name!r} would mean {owners}: {offered}; {mend}, or drop one"
    return SetAside(tool.canonical, tool.downstream, reason)


def _grouped(tools: Iterable[Tool], key: Callable[[Tool], str]) -> dict[str, list[Tool]]:
    groups: dict[str, list[Tool]] = {}
    for tool in tools:
        groups.setdefault(key(tool), []).append(tool)
    return groups
