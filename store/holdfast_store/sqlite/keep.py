"""The writes that move nothing: Renew, Mark, Note, SaveCatalog, KeepSecret, and Purge, which forgets."""

from dataclasses import asdict

from holdfast_store.contract import Count, KeepSecret, Kept, Mark, Moved, Note, Purge, Renew, SaveCatalog, Stale
from holdfast_store.sqlite.rows import call_from, to_json
from holdfast_store.sqlite.statements import load
from holdfast_store.sqlite.transaction import Transaction

_CALLS = load("calls")
_RENEW, _MARK = _CALLS["renew"], _CALLS["mark"]
_PURGE_PAYLOADS, _FORGETTABLE = _CALLS["purge_payloads"], _CALLS["forgettable"]
_FORGET = (
    load("approvals")["forget_verdicts"],
    load("approvals")["forget"],
    load("journal")["forget"],
    _CALLS["forget"],
)
_SAVE_CATALOG = load("catalogs")["save"]
_KEEP_SECRET, _SECRET = load("secrets")["keep"], load("secrets")["get"]


def renew(tx: Transaction, write: Renew) -> Count:
    """Extend every lease of the owner."""
    until = tx.now + write.lease.lease_s
    return Count(tx.connection.execute(_RENEW, (until, write.lease.owner)).rowcount)


def mark(tx: Transaction, write: Mark) -> Moved | Stale:
    """Set flags; a flag once set stays. A call without an outcome has none to deliver."""
    found = tx.find(write.call_id)
    if found is None:
        return Stale(None)
    call = call_from(
        found,
        delivered=bool(found.delivered) or (write.delivered and found.ended_at is not None),
        handled=bool(found.handled) or write.handled,
        cancel_requested=bool(found.cancel_requested) or write.cancel_requested,
    )
    flags = (int(call.delivered), int(call.handled), int(call.cancel_requested))
    tx.connection.execute(_MARK, (*flags, found.seq))
    return Moved(call)


def note(tx: Transaction, write: Note) -> Count | Stale:
    """Journal an entry that moves nothing."""
    found = tx.find(write.call_id)
    if found is None:
        return Stale(None)
    tx.append(found.seq, write.event, found.state, found.fence, write.actor, write.detail)
    return Count(1)


def purge(tx: Transaction, write: Purge) -> Count:
    """Forget at most `limit` payloads and at most `limit` calls with all that belongs to them."""
    keep = write.retention
    payload_s = min(keep.payload_s, keep.journal_s)
    emptied = tx.connection.execute(
        _PURGE_PAYLOADS,
        {
            "unkeyed_before": tx.now - payload_s,
            "keyed_before": tx.now - max(payload_s, keep.replay_s),
            "limit": write.limit,
        },
    ).rowcount
    forgettable = tx.connection.execute(
        _FORGETTABLE,
        {
            "unkeyed_before": tx.now - keep.journal_s,
            "keyed_before": tx.now - max(keep.journal_s, keep.replay_s + keep.tombstone_s),
            "limit": write.limit,
        },
    ).fetchall()
    for statement in _FORGET:
        tx.connection.executemany(statement, forgettable)
    return Count(emptied + len(forgettable))


def save_catalog(tx: Transaction, write: SaveCatalog) -> Count:
    """Keep a downstream's tools as last seen, now."""
    record = write.record
    tools = to_json(record.tools)
    capabilities = None if record.capabilities is None else to_json(record.capabilities)
    values = (
        record.downstream,
        record.identity,
        record.protocol_version,
        tools,
        record.instructions,
        capabilities,
        to_json([asdict(listed) for listed in record.conditional]) if record.conditional else None,
        tx.now,
    )
    return Count(tx.connection.execute(_SAVE_CATALOG, values).rowcount)


def keep_secret(tx: Transaction, write: KeepSecret) -> Kept:
    """Keep a secret unless there is one."""
    tx.connection.execute(_KEEP_SECRET, (write.name, write.value))
    row = tx.row(_SECRET, write.name)
    if row is None:
        raise ValueError(f"the secret {write.name} was kept and is gone")
    return Kept(bytes(row[0]))
