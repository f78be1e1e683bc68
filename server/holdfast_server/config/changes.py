"""What differs between two configs of one engine, by name. Pure: what is done about it stands in `engine.reload`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from holdfast_server.config.values import Config
from holdfast_store.model.values import Json

_SETTINGS: Mapping[str, Callable[[Config], object]] = {
    "preset": lambda config: config.preset,
    "approval_defaults": lambda config: config.approval_defaults,
    "naming.prefix": lambda config: config.prefix,
    "inline_wait": lambda config: config.inline_wait_s,
    "engine.idle_exit": lambda config: config.idle_exit_s,
    "limits.max_arguments_bytes": lambda config: config.max_arguments_bytes,
    "limits.max_result_bytes": lambda config: config.max_result_bytes,
    "limits.answer_within": lambda config: config.answer_within_s,
    "retention.replay": lambda config: config.retention.replay_s,
    "retention.tombstone": lambda config: config.retention.tombstone_s,
    "retention.undispatched": lambda config: config.retention.undispatched_s,
    "retention.payload": lambda config: config.retention.payload_s,
    "retention.journal": lambda config: config.retention.journal_s,
}
"""Settings of one value each, by their names in the file. `tools` and `trust_annotations` are told entry by entry."""

_FIXED: Mapping[str, Callable[[Config], object]] = {"store": lambda config: config.store_url}
"""What an engine keeps from its start to its end."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names in a section of the file, in its order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Downstreams:
    """Names of downstreams. `restarted` are those whose entry changed; an `unchanged` one is not touched."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new config changes. `settings` are names as in the file, such as `inline_wait` or `tools.payments__*`."""

    downstreams: Downstreams
    rules: Difference
    principals: Difference
    settings: tuple[str, ...]

    def __bool__(self) -> bool:
        running = self.downstreams
        return bool(
            running.added or running.removed or running.restarted or self.rules or self.principals or self.settings
        )

    def payload(self) -> Json:
        """The same for programs: names in lists, and whether there is any change at all."""
        return {"changed": bool(self), **asdict(self)}

    def __str__(self) -> str:
        """The same for a log: what changed, on one line."""
        sections: Json = asdict(self)
        settings = sections.pop("settings")
        told = [
            f"{section} {fate}: {', '.join(names)}"
            for section, fates in sections.items()
            for fate, names in fates.items()
            if names and fate != "unchanged"
        ]
        if settings:
            told.append(f"settings: {', '.join(settings)}")
        return "; ".join(told) or "nothing changed"


def changes(old: Config, new: Config) -> Changes:
    """What differs, as far as it has an effect: the order of rules and of downstreams has none."""
    running = _difference({spec.name: spec for spec in old.downstreams}, {spec.name: spec for spec in new.downstreams})
    touched = {*running.added, *running.changed}
    return Changes(
        downstreams=Downstreams(
            running.added,
            running.removed,
            running.changed,
            tuple(spec.name for spec in new.downstreams if spec.name not in touched),
        ),
        rules=_difference({rule.id: rule for rule in old.rules}, {rule.id: rule for rule in new.rules}),
        principals=_difference(
            {entry.principal.id: entry for entry in old.principals},
            {entry.principal.id: entry for entry in new.principals},
        ),
        settings=tuple(_settings(old, new)),
    )


def needing_a_restart(old: Config, new: Config) -> tuple[str, ...]:
    """The names of what differs and cannot be changed while an engine runs."""
    return tuple(name for name, value in _FIXED.items() if value(old) != value(new))


def _settings(old: Config, new: Config) -> Iterator[str]:
    yield from (name for name, value in _SETTINGS.items() if value(old) != value(new))
    before = {pattern.glob: pattern.fields for pattern in old.patterns}
    after = {pattern.glob: pattern.fields for pattern in new.patterns}
    yield from (f"tools.{glob}" for glob in _differing(before, after))
    yield from (f"trust_annotations.{server}" for server in _differing(old.trust, new.trust))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    found = _difference(before, after)
    return (*found.added, *found.removed, *found.changed)
