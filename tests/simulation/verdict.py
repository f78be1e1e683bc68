"""What the judge says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken. `rule` names it, `message` says by what."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"
