"""What a caller has otherwise than the engine that it found: the config's bytes, variables, the version. Pure.

What is done about it stands in `engine.engine`: the engine makes way where it serves nobody and nothing is under way.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from holdfast_server.engine.hello import Hello, differing_variables

CONFIG, VERSION = "config", "version"

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, slots=True)
class Differences:
    """`version` is the caller's where it is another; `upgrades` says that it is not an older one."""

    config: bool
    variables: tuple[str, ...]
    version: str | None
    upgrades: bool

    @property
    def outdated_by(self) -> frozenset[str]:
        """What an engine that started now, for this caller, would go by in a newer form."""
        return frozenset(name for name, newer in ((CONFIG, self.config), (VERSION, self.upgrades)) if newer)


def differences(engine: Hello, caller: Hello) -> Differences:
    """What `caller` has otherwise than `engine`, which is the hello that the engine itself would say.

    Who takes the engine as it is differs in nothing.
    """
    version = caller.version if caller.version != engine.version else None
    return Differences(
        config=caller.config_digest not in ("", engine.config_digest),
        variables=differing_variables(engine, caller) if caller.config_digest else (),
        version=version,
        upgrades=version is not None and not is_older(version, engine.version or ""),
    )


def is_older(version: str, than: str) -> bool:
    """Whether the release that `version` names comes before that of `than`.

    What follows the release's numbers, as in `1.2rc1`, is not compared: such a version is not older.
    """
    return _release(version) < _release(than)


def config_warning(config: Path) -> str:
    """For whoever is served by the config as it was."""
    return (
        f"{config} has changed since the engine read it; it is served as it was then, and taken "
        f"with `holdfast config reload {config}`, or when no client is connected"
    )


def version_warning(engine: str, caller: str, config: Path) -> str:
    """For whoever is served by an engine of another version."""
    when = "" if is_older(caller, engine) else ", or when no client is connected"
    return (
        f"the engine of {config} is Holdfast {engine}, its caller Holdfast {caller}; another engine takes its place "
        f"with `holdfast engine restart {config}`{when}"
    )


def _release(version: str) -> tuple[int, ...]:
    found = _RELEASE.match(version)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
