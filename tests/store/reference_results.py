"""What the real store answers and holds, in the plain form in which the reference keeps the same."""

from dataclasses import asdict, is_dataclass
from typing import Any

from reference_rules import Fields

from holdfast_store.contract import (
    Accepted,
    Conflict,
    Count,
    Decided,
    Joined,
    Moved,
    Purged,
    Replayed,
    Stale,
    Swept,
    Undecidable,
    WriteResult,
)
from holdfast_store.model.values import Approval, Call

Shape = tuple[Any, ...]
"""The name of a result's type, and what it carries."""


def fields_of(value: Call | Approval) -> Fields:
    """A real call or approval in the form in which `ReferenceStore` keeps one."""
    return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def shape_of(result: WriteResult) -> Shape:
    """A real result in the form that `ReferenceStore.apply` foretells."""
    kind = type(result).__name__
    match result:
        case Accepted(call, behind):
            return kind, fields_of(call), behind
        case Replayed(call) | Joined(call) | Moved(call):
            return kind, fields_of(call)
        case Stale(found):
            return kind, None if found is None else fields_of(found)
        case Conflict(call_id):
            return kind, call_id
        case Purged(call_id, ended_at):
            return kind, call_id, ended_at
        case Decided(approval, call):
            return kind, fields_of(approval), fields_of(call)
        case Undecidable(found_approval, reason):
            return kind, None if found_approval is None else fields_of(found_approval), bool(reason)
        case Swept(calls):
            return kind, [fields_of(call) for call in calls]
        case Count(rows):
            return kind, rows
    raise TypeError(f"no shape for {result!r}")
