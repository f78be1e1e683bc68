-- Lines: calls of one tool that run one at a time, in the order in which they became runnable.
--
-- A call stands in its line while it is queued, runs or waits for input, whatever became of it before. Its ticket is
-- above all that are in the line when it joins; only the call with the lowest one may be claimed.
-- The journal tells more of such calls:
--   admit, approve, resolve_retry   detail: waits_for_call, the call that it stands behind
-- and has one more entry that moves nothing:
--   next_in_line  the call is the first of its line now; detail: waited_for_call, waited_s

ALTER TABLE calls ADD COLUMN line TEXT;       -- digest of what its line has in common; NULL where it needs none
ALTER TABLE calls ADD COLUMN ticket INTEGER;  -- where it stands in that line; NULL where it does not

-- Whose turn it is. Calls without a line do not appear.
CREATE UNIQUE INDEX calls_in_line ON calls (line, ticket) WHERE ticket IS NOT NULL;
