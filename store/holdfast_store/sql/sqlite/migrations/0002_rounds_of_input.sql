-- Rounds of input, the downstream's own tasks, who asked, what downstreams offer, and secrets.
--
-- The journal knows more entries that move a call:
--   ask           detail: round, and what was asked by key and method; without `attached` the attempt is over
--   answer        detail: round; the next attempt carries the answers
--   continue      detail: round; the attempt that asked goes on with the answers
-- and one more that moves nothing:
--   answered      the requester answered a part; detail: round, keys
--   follow        the downstream made a task of its own of the attempt; detail: task

ALTER TABLE calls ADD COLUMN client TEXT;       -- JSON object: what the client said of itself; NULL once purged
ALTER TABLE calls ADD COLUMN round TEXT;        -- JSON object: the last round of input; NULL where there was none
ALTER TABLE calls ADD COLUMN remote_task TEXT;  -- JSON object: the downstream's own task for the current attempt

ALTER TABLE catalogs ADD COLUMN capabilities TEXT;  -- JSON object: what it says that it offers; NULL where unknown

CREATE TABLE secrets (
    name TEXT PRIMARY KEY,  -- what it is for
    value BLOB NOT NULL     -- random bytes, the same for every engine of this store
) STRICT;
