"""Spans of time as people write them, `500ms`, `30s`, `10m`, `4h`, `7d`, `1h30m`, and switches.

A bare number is refused: among MCP clients it means seconds here and milliseconds there.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from holdfast_server.config.variables import Expanded

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")

LONGEST_S = 3650 * 86400.0

DURATION_WORDS = "a duration such as 30s, 10m or 4h (units: ms, s, m, h, d)"


def refusal(cause: str, mend: str) -> PydanticCustomError:
    """A validation error that carries its own sentence and mend."""
    return PydanticCustomError("holdfast", "{cause}; {mend}", {"cause": cause, "mend": mend})


def words_for(value: Any) -> str:
    """What was found, for a sentence that says what was expected."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"{str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case Expanded():
            return "the value of a variable"
        case str():
            return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return type(value).__name__


def seconds(text: str) -> float:
    """The seconds of a duration such as `1h30m`. Raises `ValueError` for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"not a duration: {text!r}")
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _PART.findall(text))


def duration_words(span_s: float) -> str:
    """The shortest way to write a span, as in `10m`, `1h30m`, `400d`: the inverse of `seconds`."""
    if span_s == 0:
        return "0s"
    remaining_ms = round(span_s * 1000)
    parts: list[str] = []
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        amount, remaining_ms = divmod(remaining_ms, unit_ms)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts)


def _parse_duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise refusal(f"expected {DURATION_WORDS}, found the number {value}", f"say which unit: {value}s?")
    if not isinstance(value, str):
        raise refusal(f"expected {DURATION_WORDS}, found {words_for(value)}", "write one")
    try:
        span_s = seconds(value.strip())
    except ValueError:
        raise refusal(f"expected {DURATION_WORDS}, found {words_for(value)}", "write one") from None
    if span_s > LONGEST_S:
        raise refusal(f"{value} is longer than ten years", "write a shorter duration")
    return span_s


def _parse_positive_duration(value: Any) -> float:
    span_s = _parse_duration(value)
    if span_s <= 0:
        raise refusal("the duration must be longer than nothing", "write a longer one")
    return span_s


def _parse_switch(value: Any) -> Any:
    if isinstance(value, str):
        lowered = value.strip().lower()
        if isinstance(value, Expanded) and lowered in ("true", "false"):
            return lowered == "true"
        if lowered in ("yes", "no", "on", "off"):
            plain = "true" if lowered in ("yes", "on") else "false"
            raise refusal(f"expected true or false, found {words_for(value)}", f"write {plain}")
    return value


def _parse_whole_number(value: Any) -> Any:
    if isinstance(value, Expanded) and re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip()):
        return int(value.strip())
    return value


Duration = Annotated[float, BeforeValidator(_parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_parse_positive_duration)]
Switch = Annotated[bool, BeforeValidator(_parse_switch)]
WholeNumber = Annotated[int, BeforeValidator(_parse_whole_number)]
