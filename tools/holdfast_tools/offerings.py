"""What downstreams offer besides tools: their capabilities, and whose each prompt and each resource is.

The lists here serve to find an owner. Clients are answered with what a downstream lists for them at the time.

A prompt is seen as ``server__name``, or under its own name where the config drops the prefix. A URI is seen as it is. A
name or URI that two downstreams share would mean either: then each is seen as its downstream's, the prompt as
``server__name`` and the URI with ``server+`` before its scheme.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

from holdfast_store.model.values import Json
from holdfast_tools.downstream.news import Kind, Offered

_PLAIN = ("completions", "logging")
"""Capabilities without flags of their own."""

_NOT_FOR_A_SCHEME = re.compile(r"[^A-Za-z0-9.-]")


@dataclass(frozen=True, slots=True)
class Owned:
    """Something of one downstream, under the name or URI that the downstream knows it by."""

    downstream: str
    name: str


@dataclass(slots=True)
class _Offering:
    """What one downstream offers. `lists` holds what it listed, by kind; nothing is in it that was never listed."""

    capabilities: Json | None = None
    was_new: bool = False
    lists: dict[Kind, tuple[Json, ...]] = field(default_factory=dict)

    def names(self, kind: Kind, member: str) -> list[str]:
        return [value for item in self.lists.get(kind, ()) if isinstance(value := item.get(member), str)]


class Offerings:
    """The prompts, resources and other capabilities of `downstreams`, in the order of the config."""

    def __init__(self, downstreams: Sequence[str], *, prefix: bool) -> None:
        self._offerings = {name: _Offering() for name in downstreams}
        self._prefix = prefix
        self._prompts: dict[str, list[str]] = {}
        self._resources: dict[str, list[str]] = {}
        self._templates: dict[str, list[str]] = {}
        self._matchers: list[tuple[UriTemplate, Owned]] = []
        self._listeners: list[Callable[[Kind], None]] = []

    def subscribe(self, callback: Callable[[Kind], None]) -> None:
        """Have `callback` called whenever the prompts or resources on offer may have changed."""
        self._listeners.append(callback)

    def reconfigure(self, downstreams: Sequence[str], *, prefix: bool, kept: Collection[str]) -> None:
        """Go on with `downstreams`; what is known of those that are `kept` stays, of the others nothing is known yet.

        Who subscribed is told once of each kind whose exposed names differ.
        """
        before = {kind: self._exposed(kind) for kind in Kind}
        known = {name: offering for name, offering in self._offerings.items() if name in kept}
        self._offerings = {name: known.get(name) or _Offering() for name in downstreams}
        self._prefix = prefix
        self._arrange()
        for kind in Kind:
            if self._exposed(kind) != before[kind]:
                self._tell(kind)

    # --- what downstreams tell --------------------------------------------------------------------------------

    def declare(self, downstream: str, capabilities: Json | None, *, restored: bool = False) -> None:
        """A downstream's capabilities, as it declared them; `restored` ones are those of its last connection."""
        offering = self._offerings[downstream]
        if capabilities is not None:
            offering.was_new = offering.capabilities is None and not restored
            offering.capabilities = capabilities

    def take_in(self, downstream: str, offered: Offered) -> None:
        """What a downstream lists by now."""
        offering = self._offerings[downstream]
        before = offering.lists.get(offered.kind)
        offering.lists[offered.kind] = offered.items
        self._arrange()
        news = offering.was_new and bool(offered.items) if before is None else before != offered.items
        if offered.told or news:
            self._tell(offered.kind)

    def _tell(self, kind: Kind) -> None:
        for listener in self._listeners:
            listener(kind)

    # --- who offers what --------------------------------------------------------------------------------------

    def declared(self, downstream: str) -> bool:
        """Whether the capabilities of `downstream` are known."""
        return self._offerings[downstream].capabilities is not None

    def with_capability(self, name: str) -> tuple[str, ...]:
        """The downstreams that declare it."""
        return tuple(server for server, offering in self._offerings.items() if name in (offering.capabilities or {}))

    def capabilities(self) -> Json:
        """What all of them declare together. Changes of lists are always told: a downstream may come back changed."""
        declared = [offering.capabilities for offering in self._offerings.values() if offering.capabilities]
        union: Json = {name: {} for name in _PLAIN if any(name in one for one in declared)}
        if any(Kind.PROMPTS in one for one in declared):
            union[Kind.PROMPTS.value] = {"listChanged": True}
        if any(Kind.RESOURCES in one for one in declared):
            subscribe = any(_flag(one.get(Kind.RESOURCES), "subscribe") for one in declared)
            union[Kind.RESOURCES.value] = {"subscribe": subscribe, "listChanged": True}
        extensions: Json = {}
        for one in declared:
            extensions |= one.get("extensions") or {}
        return union | ({"extensions": extensions} if extensions else {})

    # --- prompts ----------------------------------------------------------------------------------------------

    def exposed_prompt(self, downstream: str, name: str) -> str:
        """The name under which clients see a prompt."""
        shared = len(self._prompts.get(name, ())) > 1
        return f"{downstream}__{name}" if self._prefix or shared else name

    def find_prompt(self, exposed: str) -> tuple[Owned, ...]:
        """Whose prompt it may be, the likeliest first."""
        servers = self.with_capability(Kind.PROMPTS)
        owners = self._prompts.get(exposed, [])
        if not self._prefix and len(owners) == 1:
            return (Owned(owners[0], exposed),)
        qualified = tuple(
            Owned(server, exposed.removeprefix(f"{server}__"))
            for server in sorted(servers, key=len, reverse=True)
            if exposed.startswith(f"{server}__")
        )
        if self._prefix:
            return qualified
        listed = tuple(owned for owned in qualified if owned.downstream in self._prompts.get(owned.name, ()))
        return listed or tuple(Owned(server, exposed) for server in owners or servers)

    # --- resources --------------------------------------------------------------------------------------------

    def exposed_uri(self, downstream: str, uri: str) -> str:
        """The URI under which clients see a resource."""
        return _qualified(downstream, uri) if len(self._resources.get(uri, ())) > 1 else uri

    def exposed_template(self, downstream: str, template: str) -> str:
        """The URI template under which clients see a template."""
        return _qualified(downstream, template) if len(self._templates.get(template, ())) > 1 else template

    def find_resource(self, uri: str) -> tuple[Owned, ...]:
        """Whose resource it may be, the likeliest first: as listed, by template, or any that has resources."""
        servers = self.with_capability(Kind.RESOURCES)
        if owners := self._resources.get(uri):
            return tuple(Owned(server, uri) for server in owners)
        if qualified := self._unqualified(uri, servers):
            return qualified
        if matching := tuple(
            Owned(owned.downstream, uri) for match, owned in self._matchers if match.match(uri) is not None
        ):
            return matching
        return tuple(Owned(server, uri) for server in servers)

    def find_template(self, template: str) -> tuple[Owned, ...]:
        """Whose URI template it may be, the likeliest first; a resource's own URI counts as one without variables."""
        if owners := self._templates.get(template):
            return tuple(Owned(server, template) for server in owners)
        return self.find_resource(template)

    def _unqualified(self, uri: str, servers: Iterable[str]) -> tuple[Owned, ...]:
        """Where `uri` names its downstream because it would be ambiguous without."""
        shared = any(len(owners) > 1 for known in (self._resources, self._templates) for owners in known.values())
        if not shared:
            return ()
        return tuple(
            Owned(server, uri.removeprefix(prefix))
            for server in servers
            if uri.startswith(prefix := _qualifier(server))
        )

    def _arrange(self) -> None:
        self._prompts = self._owners(Kind.PROMPTS, "name")
        self._resources = self._owners(Kind.RESOURCES, "uri")
        self._templates = self._owners(Kind.RESOURCES, "uriTemplate")
        self._matchers = [
            (matcher, Owned(server, template))
            for template, servers in self._templates.items()
            if (matcher := _matcher(template)) is not None
            for server in servers
        ]

    def _exposed(self, kind: Kind) -> set[str]:
        """The names of everything that is known of this kind, as clients see them."""
        if kind is Kind.PROMPTS:
            return {self.exposed_prompt(server, name) for name, owners in self._prompts.items() for server in owners}
        if kind is Kind.RESOURCES:
            uris = {self.exposed_uri(server, uri) for uri, owners in self._resources.items() for server in owners}
            return uris | {
                self.exposed_template(server, t) for t, owners in self._templates.items() for server in owners
            }
        return set()

    def _owners(self, kind: Kind, member: str) -> dict[str, list[str]]:
        owners: dict[str, list[str]] = {}
        for server, offering in self._offerings.items():
            for name in dict.fromkeys(offering.names(kind, member)):
                owners.setdefault(name, []).append(server)
        return owners


def _qualified(downstream: str, uri: str) -> str:
    return _qualifier(downstream) + uri


def _qualifier(downstream: str) -> str:
    """The name of a downstream as the beginning of a URI scheme (RFC 3986, section 3.1)."""
    safe = _NOT_FOR_A_SCHEME.sub("-", downstream)
    return f"{safe}+" if safe[:1].isalpha() else f"s{safe}+"


def _matcher(template: str) -> UriTemplate | None:
    """The template as something that URIs are matched with; None for one that is none."""
    try:
        return UriTemplate.parse(template)
    except InvalidUriTemplate:
        return None


def _flag(declared: Any, name: str) -> bool:
    return isinstance(declared, Mapping) and declared.get(name) is True
