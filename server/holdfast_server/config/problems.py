"""What is wrong with a config file: every problem with its line, its cause and its mend, reported together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast_policy.names import nearest
from holdfast_store.model.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One finding. `line` counts from 1; 0 means the file as a whole."""

    line: int
    cause: str
    mend: str

    def at(self, file: Path) -> str:
        """The finding as one sentence, ``file:line: cause; mend``."""
        place = f"{file}:{self.line}" if self.line else f"{file}"
        return f"{place}: {self.cause}; {self.mend}"


class ConfigProblems(ConfigError):
    """A config file that cannot be used. `str()` has one line per problem, in the order of the file."""

    def __init__(self, file: Path, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems: Sequence[Problem] = sorted(set(problems))
        super().__init__("\n".join(problem.at(file) for problem in self.problems))


@dataclass(slots=True)
class Findings:
    """Collects what the readers find, so that one run shows all of it."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, line: int, cause: str, mend: str) -> None:
        self.problems.append(Problem(line, cause, mend))

    def warning(self, line: int, cause: str, mend: str) -> None:
        self.warnings.append(Problem(line, cause, mend))


def suggestion(name: str, known: Sequence[str]) -> str:
    """The mend for an unknown name: the nearest known one, else all of them."""
    close = nearest(name, known)
    if close is not None:
        return f"did you mean {close!r}?"
    return "known are " + ", ".join(known)


__all__ = ["ConfigProblems", "Findings", "Problem", "nearest", "suggestion"]
