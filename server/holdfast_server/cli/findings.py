"""What `holdfast doctor` finds, one thing at a time."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"  # works, and may not be what was meant
    PROBLEM = "problem"  # something does not work: the exit code says so


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `about` is a word or a name, `text` a sentence with the mend where there is one."""

    level: Level
    about: str
    text: str
