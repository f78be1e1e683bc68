"""What a downstream tells without being asked: its lists changed, a resource did, or it has something to say."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from holdfast_store.model.values import Json


class Kind(StrEnum):
    """What a server offers in lists; also the name of the capability."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"


@dataclass(frozen=True, slots=True)
class Offered:
    """All prompts, or all resources and templates, that the downstream listed by itself, not for a client.

    `told`: it said that they had changed; else they are listed because a connection is new, or was unwatched.
    """

    kind: Kind
    items: tuple[Json, ...]
    told: bool


@dataclass(frozen=True, slots=True)
class ListedFor:
    """All tools that the downstream lists to clients that declare `capabilities`, which let it ask back."""

    capabilities: Json
    tools: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Updated:
    """The resource with this URI may have changed."""

    uri: str


@dataclass(frozen=True, slots=True)
class Said:
    """A log message that belongs to no request that could be told: the params of `notifications/message`."""

    params: Json


ELICITED = "notifications/elicitation/complete"


@dataclass(frozen=True, slots=True)
class Elicited:
    """What a user was sent to a URL for is done: the params of `notifications/elicitation/complete`."""

    params: Json


News = Offered | ListedFor | Updated | Said | Elicited

OnNews = Callable[[News], None]
"""Called in the order in which things were told. Must not block."""


def no_news(news: News) -> None:
    """For whoever wants none."""
