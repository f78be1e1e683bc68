"""Rows to values and back. The order of columns is that of the section `columns` of ``calls.sql``."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from holdfast_store.model.lifecycle import Event, State
from holdfast_store.model.values import (
    Approval,
    ApprovalStatus,
    Call,
    CatalogRecord,
    ConditionalTools,
    JournalEntry,
    Json,
    NewCall,
    Outcome,
    OutcomeKind,
    RemoteTask,
    Requirement,
    Round,
    Verdict,
    VerdictKind,
)
from holdfast_store.sqlite.faults import DamagedRow

Row = tuple[Any, ...]

STATES = {state.value: state for state in State}
_EVENTS = {event.value: event for event in Event}
_OUTCOMES = {kind.value: kind for kind in OutcomeKind}

_NEW_CALL_FIELDS = tuple(field.name for field in dataclasses.fields(NewCall))
_new_call_values = attrgetter(*_NEW_CALL_FIELDS)

_FLAGS = ("retry_safe", "delivered", "handled", "cancel_requested")

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@contextmanager
def decoding() -> Iterator[None]:
    """What cannot be read inside was not written by these statements: it raises `DamagedRow`."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRow(f"a stored value cannot be read: {error!r}") from error


class Found(NamedTuple):
    """A stored call as SQLite gives it: JSON as text, flags as integers."""

    seq: int
    id: str
    tenant: str
    principal: str
    tool: str
    downstream: str
    original_name: str
    identity: str
    definition: str
    fingerprint: str
    run: str
    retry_safe: int
    requesters: str
    key: str | None
    client_call_id: str | None
    traceparent: str | None
    rules: str
    resumes: str | None
    deadline_s: float | None
    state: str
    created_at: float
    updated_at: float
    delivered: int
    handled: int
    fence: int
    failures: int
    losses: int
    not_before: float | None
    deadline_at: float | None
    execute_by: float | None
    lease_owner: str | None
    lease_until: float | None
    ended_at: float | None
    cancel_requested: int
    approval_id: str | None
    note: str | None
    due_at: float | None
    outcome_kind: str | None
    arguments: str
    outcome: str | None
    client: str | None
    round: str | None
    remote_task: str | None
    line: str | None
    ticket: int | None


def to_json(value: Json | Sequence[Any]) -> str:
    """Compact JSON text. Raises `ValueError` for a non-finite number, `TypeError` for what JSON does not know."""
    return _encode(value)


def call_from(row: Row, **changes: object) -> Call:
    """The call of a row of `columns`, with some of its fields changed."""
    with decoding():
        fields = _call_fields(row)
    fields.update(changes)
    return Call(**fields)


def found_from(row: Row) -> Found:
    """The row of a call as it is, but for a state that there is not: that raises `DamagedRow`."""
    found = Found._make(row)
    if found.state not in STATES:
        raise DamagedRow(f"there is no state {found.state!r}")
    return found


def _call_fields(row: Row) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(Found._fields, row, strict=True))
    del fields["seq"], fields["due_at"]
    kind = fields.pop("outcome_kind")
    fields["state"] = STATES[fields["state"]]
    fields["arguments"] = json.loads(fields["arguments"])
    fields["outcome"] = None if kind is None else Outcome(_OUTCOMES[kind], json.loads(fields["outcome"]))
    for name, parse in _ATTACHED.items():
        if fields[name] is not None:
            fields[name] = parse(json.loads(fields[name]))
    fields["requesters"] = _names(fields["requesters"])
    fields["rules"] = _names(fields["rules"])
    for flag in _FLAGS:
        fields[flag] = fields[flag] == 1
    return fields


def new_call_values(call: NewCall) -> tuple[object, ...]:
    """What is known of a call when it is admitted, in the order of the section `new` of ``calls.sql``."""
    return (
        call.id,
        call.tenant,
        call.principal,
        call.tool,
        call.downstream,
        call.original_name,
        call.identity,
        call.definition,
        call.fingerprint,
        call.run,
        int(call.retry_safe),
        _names_to_json(call.requesters),
        call.key,
        call.client_call_id,
        call.traceparent,
        _names_to_json(call.rules),
        call.resumes,
        call.deadline_s,
        to_json(call.arguments),
        None if call.client is None else to_json(call.client),
        call.line,
    )


def attached_values(call: Call) -> tuple[str | None, str | None, str | None]:
    """Client, round and remote task as they are stored."""
    return (
        None if call.client is None else to_json(call.client),
        None if call.round is None else to_json(dataclasses.asdict(call.round)),
        None if call.remote_task is None else to_json(dataclasses.asdict(call.remote_task)),
    )


def new_call_fields(call: NewCall) -> dict[str, Any]:
    """The same by name, to make a `Call` of."""
    return dict(zip(_NEW_CALL_FIELDS, _new_call_values(call), strict=True))


def approval_from(row: Row) -> Approval:
    """The approval of a row of the section `select` of ``approvals.sql``."""
    (_, id_, requirements, arguments_hash, definition, reason, expires_in_s, execute_within_s, status, created_at,
     expires_at, decided_at, _, call_id, tenant, tool, requesters, arguments, verdicts) = row  # fmt: skip
    with decoding():
        return Approval(
            id=id_,
            requirements=tuple(_requirement_from(item) for item in json.loads(requirements)),
            arguments_hash=arguments_hash,
            definition=definition,
            reason=reason,
            expires_in_s=expires_in_s,
            execute_within_s=execute_within_s,
            call_id=call_id,
            tenant=tenant,
            tool=tool,
            requesters=_names(requesters),
            arguments=json.loads(arguments),
            status=ApprovalStatus(status),
            created_at=created_at,
            expires_at=expires_at,
            verdicts=tuple(
                Verdict(principal, frozenset(roles), VerdictKind(kind), comment, at)
                for principal, roles, kind, comment, at in json.loads(verdicts)
            ),
            decided_at=decided_at,
        )


def requirement_to_json(requirement: Requirement) -> Json:
    """A requirement as it is stored."""
    return {
        "rule": requirement.rule,
        "digest": requirement.digest,
        "min_verdicts": requirement.min_verdicts,
        "roles": sorted(requirement.roles),
        "prevent_self_review": requirement.prevent_self_review,
        "reason": requirement.reason,
    }


def journal_entry_from(call_id: str, row: Row) -> JournalEntry:
    """The entry of a row of ``journal.sql``; its event is an `Event` where the lifecycle knows it."""
    seq, at, event, state, attempt, actor, detail = row
    with decoding():
        return JournalEntry(
            seq=seq,
            call_id=call_id,
            at=at,
            event=_EVENTS[event] if event in _EVENTS else str(event),
            state=STATES[state],
            attempt=attempt,
            actor=actor,
            detail={} if detail is None else json.loads(detail),
        )


def catalog_from(row: Row) -> CatalogRecord:
    """The record of a row of ``catalogs.sql``."""
    downstream, identity, protocol_version, tools, instructions, capabilities, conditional, seen_at = row
    with decoding():
        return CatalogRecord(
            downstream,
            identity,
            protocol_version,
            tuple(json.loads(tools)),
            seen_at,
            instructions,
            None if capabilities is None else json.loads(capabilities),
            () if conditional is None else tuple(_conditional_from(item) for item in json.loads(conditional)),
        )


def _conditional_from(item: Json) -> ConditionalTools:
    return ConditionalTools(**{**item, "tools": tuple(item["tools"])})


def _remote_task_from(item: Json) -> RemoteTask:
    return RemoteTask(**{**item, "answered": tuple(item["answered"])})


_ATTACHED: dict[str, Callable[[Json], object]] = {
    "client": dict,
    "round": lambda item: Round(**item),
    "remote_task": _remote_task_from,
}


def _requirement_from(item: Json) -> Requirement:
    return Requirement(**{**item, "roles": frozenset(item["roles"])})


@lru_cache(maxsize=1024)
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=1024)
def _names_to_json(names: tuple[str, ...]) -> str:
    return to_json(names)
