-- Statements about approvals and verdicts. `{name}` stands for another section of this file.

-- name: select
-- An approval with what the approver must see of its call, and its verdicts as a JSON array, oldest first.
SELECT
    a.seq, a.id, a.requirements, a.arguments_hash, a.definition, a.reason, a.expires_in_s, a.execute_within_s,
    a.status, a.created_at, a.expires_at, a.decided_at, c.seq, c.id, c.tenant, c.tool, c.requesters, c.arguments,
    (
        SELECT json_group_array(json_array(principal, json(roles), kind, comment, at))
        FROM (SELECT * FROM verdicts WHERE approval = a.seq ORDER BY seq)
    )
FROM approvals AS a CROSS JOIN calls AS c ON c.seq = a.call

-- name: insert
INSERT INTO approvals (
    id, call, requirements, arguments_hash, definition, reason, expires_in_s, execute_within_s, status, created_at,
    expires_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)

-- name: by_id
{select} WHERE a.id = ?

-- name: terms
-- When it expires, after which span, and how long an approved call may wait.
SELECT expires_at, expires_in_s, execute_within_s FROM approvals WHERE id = ?

-- name: end_pending
-- A call that stops waiting takes its question with it.
UPDATE approvals SET status = ?, decided_at = ? WHERE call = ? AND status = 'pending'

-- name: insert_verdict
INSERT INTO verdicts (approval, principal, roles, kind, comment, at)
VALUES ((SELECT seq FROM approvals WHERE id = ?), ?, ?, ?, ?, ?)

-- name: page_of_all
{select} WHERE a.seq < :before AND (:tenant IS NULL OR c.tenant = :tenant) ORDER BY a.seq DESC LIMIT :limit

-- name: page_of_status
{select}
WHERE a.status = :status AND a.seq < :before AND (:tenant IS NULL OR c.tenant = :tenant)
ORDER BY a.seq DESC LIMIT :limit

-- name: count_pending
SELECT count(*) FROM approvals WHERE status = 'pending'

-- name: forget_verdicts
DELETE FROM verdicts WHERE approval IN (SELECT seq FROM approvals WHERE call = ?)

-- name: forget
DELETE FROM approvals WHERE call = ?
