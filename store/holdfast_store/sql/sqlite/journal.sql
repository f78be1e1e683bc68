-- Statements about the journal.

-- name: append
INSERT INTO journal (call, at, event, state, attempt, actor, detail) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: of_call
-- The timeline of one call, oldest first.
SELECT seq, at, event, state, attempt, actor, detail FROM journal
WHERE call = (SELECT seq FROM calls WHERE id = ?) ORDER BY seq

-- name: count
SELECT count(*) FROM journal

-- name: forget
DELETE FROM journal WHERE call = ?
