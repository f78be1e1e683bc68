-- Statements about calls. `{name}` stands for another section of this file. ``state <> 'done'`` beside another
-- condition on the state says nothing new: it lets SQLite see that the index without the done calls will do.

-- name: columns
-- A stored call, in the order of `Found`.
seq, id, tenant, principal, tool, downstream, original_name, identity, definition, fingerprint, run, retry_safe,
requesters, key, client_call_id, traceparent, rules, resumes, deadline_s, state, created_at, updated_at, delivered,
handled, fence, failures, losses, not_before, deadline_at, execute_by, lease_owner, lease_until, ended_at,
cancel_requested, approval_id, note, due_at, outcome_kind, arguments, outcome, client, round, remote_task, line, ticket

-- name: new
-- What is known of a call when it is admitted, in the order of `new_call_values`.
id, tenant, principal, tool, downstream, original_name, identity, definition, fingerprint, run, retry_safe,
requesters, key, client_call_id, traceparent, rules, resumes, deadline_s, arguments, client, line

-- name: insert_open
INSERT INTO calls (
    {new}, state, created_at, updated_at, fence, deadline_at, lease_owner, lease_until, approval_id, note, key_held,
    due_at, ticket
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_ended
-- A call that is denied, or has already run when it is recorded.
INSERT INTO calls (
    {new}, state, created_at, updated_at, fence, failures, delivered, deadline_at, ended_at, note, key_held,
    outcome_kind, outcome
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: by_id
SELECT {columns} FROM calls WHERE id = ?

-- name: by_key
-- The call that holds the key, released by time or not.
SELECT {columns} FROM calls
WHERE key_held = 1 AND key = ? AND principal = ? AND original_name = ? AND downstream = ? AND tenant = ?

-- name: release_key
UPDATE calls SET key_held = 0 WHERE id = ?

-- name: resuming
-- The call that took up the ended call, and is open or done: it is not taken up twice.
SELECT {columns} FROM calls WHERE resumes = ? AND (ended_at IS NULL OR state = 'done') ORDER BY seq DESC LIMIT 1

-- name: joinable
-- The newest same call of the same principal that answers for an unkeyed repeat: open and old enough (or with the
-- same client call id), or ended within the window with nobody told. Withdrawn calls had no effect to protect, nor had
-- those that answered by asking for input: whoever repeats one wants to be asked. One that asks in the midst of its
-- attempt, or of the downstream's own task, is under way, and answers for its repeat like any other.
SELECT {columns} FROM calls
WHERE key IS NULL AND delivered = 0
    AND fingerprint = :fingerprint AND original_name = :original_name AND principal = :principal
    AND downstream = :downstream AND tenant = :tenant
    AND coalesce(client_call_id, :client_call_id) IS coalesce(:client_call_id, client_call_id)
    AND (
        (ended_at IS NULL
            AND (state <> 'waiting_for_input' OR round ->> 'attached' OR remote_task IS NOT NULL)
            AND (created_at <= :open_since OR client_call_id = :client_call_id))
        OR (ended_at >= :ended_since AND outcome_kind <> 'cancelled'
            AND (outcome_kind <> 'expired' OR round IS NULL OR remote_task IS NOT NULL))
    )
ORDER BY seq DESC LIMIT 1

-- name: move
-- Move along one row of the lifecycle table. The guard is that row: its source, and the fence.
UPDATE calls SET
    state = ?, updated_at = ?, outcome_kind = ?, outcome = ?, fence = ?, failures = ?, losses = ?, not_before = ?,
    execute_by = ?, lease_owner = ?, lease_until = ?, ended_at = ?, approval_id = ?, note = ?, due_at = ?
WHERE seq = ? AND state = ? AND fence = ?

-- name: attach
-- What few calls have: who answers, the round of input, the downstream's own task.
UPDATE calls SET client = ?, round = ?, remote_task = ? WHERE seq = ?

-- name: last_in_line
-- Behind whom a call would stand that joins the line now.
SELECT id, ticket FROM calls WHERE line = ? AND ticket IS NOT NULL ORDER BY ticket DESC LIMIT 1

-- name: first_in_line
-- Whose turn it is in the line.
SELECT seq, id, ticket, state, fence, updated_at FROM calls
WHERE line = ? AND ticket IS NOT NULL ORDER BY ticket LIMIT 1

-- name: take_ticket
-- Join the line, or leave it (NULL).
UPDATE calls SET ticket = ? WHERE seq = ?

-- name: renew
UPDATE calls SET lease_until = ?
WHERE state IN ('running', 'waiting_for_input') AND state <> 'done' AND lease_owner = ?

-- name: mark
UPDATE calls SET delivered = ?, handled = ?, cancel_requested = ? WHERE seq = ?

-- name: abandoned
-- Attempts of any other owner: for whoever has proof that no other owner lives.
SELECT {columns} FROM calls
WHERE state IN ('running', 'waiting_for_input') AND state <> 'done' AND lease_owner <> ? ORDER BY seq

-- name: lapsed
-- Attempts whose lease has run out.
SELECT {columns} FROM calls
WHERE state IN ('running', 'waiting_for_input') AND state <> 'done' AND lease_until <= ? ORDER BY seq

-- name: overdue
-- What time alone ends, longest overdue first.
SELECT {columns} FROM calls WHERE due_at <= ? ORDER BY due_at LIMIT ?

-- name: may_go
-- Not for a downstream that has no room, unless it is only its task there that is watched; nor before its turn.
(remote_task IS NOT NULL OR downstream NOT IN (SELECT value FROM json_each(:full)))
AND (ticket IS NULL OR ticket = (
    SELECT min(ahead.ticket) FROM calls AS ahead WHERE ahead.line = calls.line AND ahead.ticket IS NOT NULL
))

-- name: runnable
-- Queued, pause over, time left, its turn, and room for it; oldest first.
SELECT {columns} FROM calls
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq FROM calls INDEXED BY calls_queued
        WHERE state = 'queued' AND not_before IS NULL AND coalesce(due_at > :now, 1) AND {may_go}
        ORDER BY seq LIMIT :limit
    )
    UNION ALL
    SELECT seq FROM (
        SELECT seq FROM calls INDEXED BY calls_queued
        WHERE state = 'queued' AND not_before <= :now AND coalesce(due_at > :now, 1) AND {may_go}
        ORDER BY seq LIMIT :limit
    )
)
ORDER BY seq LIMIT :limit

-- name: next_due
-- The earliest end of a pause that lasts yet, and the earliest time at which time alone ends a call.
SELECT
    (SELECT min(not_before) FROM calls WHERE state = 'queued' AND not_before > ?),
    (SELECT min(due_at) FROM calls WHERE due_at IS NOT NULL)

-- name: also
-- The conditions of a page besides the one that its index serves; NULL matches all.
seq < :before
    AND (:run IS NULL OR run = :run)
    AND (:tool IS NULL OR tool = :tool)
    AND (:tenant IS NULL OR tenant = :tenant)
    AND (:principal IS NULL OR principal = :principal)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))

-- name: page_of_all
SELECT {columns} FROM calls WHERE {also} ORDER BY seq DESC LIMIT :limit

-- name: page_of_run
SELECT {columns} FROM calls INDEXED BY calls_by_run
WHERE run = :run AND run <> id AND {also} ORDER BY seq DESC LIMIT :limit

-- name: page_of_own_run
-- The call that is its own run, if that is the run.
SELECT {columns} FROM calls WHERE id = :run AND run = id AND {also} LIMIT :limit

-- name: page_of_principal
SELECT {columns} FROM calls INDEXED BY calls_by_principal
WHERE tenant = :tenant AND principal = :principal AND {also} ORDER BY seq DESC LIMIT :limit

-- name: page_of_tool
SELECT {columns} FROM calls INDEXED BY calls_by_tool WHERE tool = :tool AND {also} ORDER BY seq DESC LIMIT :limit

-- name: page_of_state
-- Any state but done, which is most of the table: that is a page of all.
SELECT {columns} FROM calls INDEXED BY calls_by_state
WHERE state = :state AND state <> 'done' AND {also} ORDER BY seq DESC LIMIT :limit

-- name: purge_payloads
-- Empty what ended before the given times, unkeyed and keyed; the rows stay. Of a round its number stays: it says that
-- the call was sent, so its key is held on.
UPDATE calls SET payload_kept = 0, arguments = '{}', outcome = '{}', client = NULL,
    round = CASE WHEN round IS NOT NULL THEN json_object('number', round ->> 'number') END
WHERE seq IN (
    SELECT seq FROM calls
    WHERE payload_kept = 1 AND (key IS NULL) = 1 AND ended_at IS NOT NULL AND ended_at < :unkeyed_before
    UNION ALL
    SELECT seq FROM calls
    WHERE payload_kept = 1 AND (key IS NULL) = 0 AND ended_at IS NOT NULL AND ended_at < :keyed_before
    LIMIT :limit
)

-- name: forgettable
-- Calls to forget altogether: they ended before the given times, and their payloads are already gone. The one with
-- the last entry of the journal stays, so that no number of an entry is ever used twice.
SELECT seq FROM (
    SELECT seq FROM calls
    WHERE payload_kept = 0 AND (key IS NULL) = 1 AND ended_at IS NOT NULL AND ended_at < :unkeyed_before
    UNION ALL
    SELECT seq FROM calls
    WHERE payload_kept = 0 AND (key IS NULL) = 0 AND ended_at IS NOT NULL AND ended_at < :keyed_before
)
WHERE seq <> (SELECT call FROM journal ORDER BY seq DESC LIMIT 1)
LIMIT :limit

-- name: forget
DELETE FROM calls WHERE seq = ?

-- name: count_by_state
-- All but done, and the whole.
SELECT state, count(*) FROM calls WHERE state <> 'done' GROUP BY state

-- name: unreadable
-- Rows that no statement here has written: what is not JSON, or is no state. The first hundred.
SELECT seq FROM calls
WHERE NOT (
    json_valid(arguments) AND json_valid(requesters) AND json_valid(rules)
    AND (outcome IS NULL OR json_valid(outcome)) AND (client IS NULL OR json_valid(client))
    AND (round IS NULL OR json_valid(round)) AND (remote_task IS NULL OR json_valid(remote_task))
    AND state IN (SELECT value FROM json_each(:states))
)
LIMIT 100

-- name: count
SELECT count(*) FROM calls
