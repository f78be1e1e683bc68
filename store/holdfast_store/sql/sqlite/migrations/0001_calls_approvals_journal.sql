-- The first shape: calls, what people were asked about them, the journal, and the catalogs as last seen.
--
-- Columns named *_at are seconds since the epoch, *_s are spans in seconds, flags are 0 or 1, JSON is text.
-- The states and events are those of the lifecycle table; which of them follow each other is guarded by the
-- statements, not here.

CREATE TABLE calls (
    seq INTEGER PRIMARY KEY,                      -- order of admission; pages run along it
    id TEXT NOT NULL UNIQUE,                      -- the call's handle: 128 random bits in hex
    tenant TEXT NOT NULL,                         -- the principal's tenant
    principal TEXT NOT NULL,                      -- who asked
    tool TEXT NOT NULL,                           -- canonical name, server__tool
    downstream TEXT NOT NULL,                     -- the server's name in the config
    original_name TEXT NOT NULL,                  -- the tool's name at the downstream
    identity TEXT NOT NULL,                       -- digest of the downstream's command or url
    definition TEXT NOT NULL,                     -- digest of the tool's pinned definition
    fingerprint TEXT NOT NULL,                    -- SHA-256 of the canonical requested arguments
    run TEXT NOT NULL,                            -- the piece of an agent's work that it belongs to
    retry_safe INTEGER NOT NULL,                  -- flag: an attempt whose answer is lost may be sent again
    requesters TEXT NOT NULL,                     -- JSON array: principals that may not approve it
    key TEXT,                                     -- the caller's idempotency key
    client_call_id TEXT,                          -- the client's own name for the call
    traceparent TEXT,                             -- the caller's trace context, handed on to the downstream
    rules TEXT NOT NULL,                          -- JSON array: ids of the rules that decided
    resumes TEXT,                                 -- id of the ended call that this one takes up again
    deadline_s REAL,                              -- the caller's patience, counted from admission
    state TEXT NOT NULL,                          -- where it stands
    created_at REAL NOT NULL,                     -- admitted
    updated_at REAL NOT NULL,                     -- last moved
    delivered INTEGER NOT NULL DEFAULT 0,         -- flag: the outcome was written to the client, not yet cancelled
    handled INTEGER NOT NULL DEFAULT 0,           -- flag: the client was given the call's id
    fence INTEGER NOT NULL,                       -- number of the last claimed attempt, 0 before the first
    failures INTEGER NOT NULL DEFAULT 0,          -- attempts answered with an error
    losses INTEGER NOT NULL DEFAULT 0,            -- attempts whose answer was lost
    not_before REAL,                              -- queued: the next claim's earliest time
    deadline_at REAL,                             -- created_at + deadline_s
    execute_by REAL,                              -- approved: the latest time at which it may first be sent
    lease_owner TEXT,                             -- running: the engine that runs it
    lease_until REAL,                             -- running: when the engine is taken for dead without a renewal
    ended_at REAL,                                -- when it reached a terminal state
    cancel_requested INTEGER NOT NULL DEFAULT 0,  -- flag: withdrawn while running
    approval_id TEXT,                             -- the last question to people about it
    note TEXT,                                    -- what is waited for, for people
    key_held INTEGER NOT NULL,                    -- flag: no other call may take this key; cleared on release
    due_at REAL,                                  -- when time alone ends it: the earliest of deadline, execute_by,
                                                  -- approval's expiry and patience for an answer, as its state has it
    payload_kept INTEGER NOT NULL DEFAULT 1,      -- flag: arguments and outcome are still as they were
    outcome_kind TEXT,                            -- how it ended
    arguments TEXT NOT NULL,                      -- JSON object; {} once the payload is purged
    outcome TEXT,                                 -- JSON object in wire form; {} once the payload is purged
    CHECK ((ended_at IS NULL) = (outcome_kind IS NULL)),
    CHECK ((outcome IS NULL) = (outcome_kind IS NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK (key_held = 0 OR key IS NOT NULL)
) STRICT;

-- Pages by one condition, newest first. What is done is most of the table, a call that is its own run is found by
-- its id: neither is worth an entry.
CREATE INDEX calls_by_state ON calls (state) WHERE state <> 'done';
CREATE INDEX calls_by_run ON calls (run) WHERE run <> id;
CREATE INDEX calls_by_principal ON calls (tenant, principal);
CREATE INDEX calls_by_tool ON calls (tool);

-- A key has one holder.
CREATE UNIQUE INDEX calls_by_key ON calls (key, principal, original_name, downstream, tenant) WHERE key_held = 1;

-- What an unkeyed call may join: its outcome was told to nobody yet.
CREATE INDEX calls_joinable ON calls (fingerprint, original_name, principal) WHERE key IS NULL AND delivered = 0;

-- The calls that take up an ended one.
CREATE INDEX calls_resuming ON calls (resumes) WHERE resumes IS NOT NULL;

-- What may be claimed, and what time alone ends. Calls that run appear in neither.
CREATE INDEX calls_queued ON calls (not_before) WHERE state = 'queued';
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;

-- What retention looks at, oldest end first; keyed calls keep longer where the key's windows ask for it.
CREATE INDEX calls_ended ON calls (payload_kept, (key IS NULL), ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE approvals (
    seq INTEGER PRIMARY KEY,            -- order of asking; pages run along it
    id TEXT NOT NULL UNIQUE,            -- 128 random bits in hex
    call INTEGER NOT NULL               -- the call that waits for it
        REFERENCES calls (seq),
    requirements TEXT NOT NULL,         -- JSON array: what each matching rule demands
    arguments_hash TEXT NOT NULL,       -- digest of the arguments it binds
    definition TEXT NOT NULL,           -- digest of the tool definition it binds
    reason TEXT NOT NULL,               -- why people are asked
    expires_in_s REAL NOT NULL,         -- undecided for that long, it expires
    execute_within_s REAL NOT NULL,     -- once approved, the call must start within this span
    status TEXT NOT NULL,               -- pending, approved, rejected, expired or cancelled
    created_at REAL NOT NULL,           -- asked
    expires_at REAL NOT NULL,           -- created_at + expires_in_s
    decided_at REAL,                    -- when it stopped being pending, whoever or whatever ended it
    CHECK ((status = 'pending') = (decided_at IS NULL))
) STRICT;

CREATE INDEX approvals_by_status ON approvals (status);
CREATE INDEX approvals_by_call ON approvals (call);

CREATE TABLE verdicts (
    seq INTEGER PRIMARY KEY,            -- order of answering
    approval INTEGER NOT NULL           -- what was answered
        REFERENCES approvals (seq),
    principal TEXT NOT NULL,            -- who answered
    roles TEXT NOT NULL,                -- JSON array: the roles held at that moment
    kind TEXT NOT NULL,                 -- approve or reject
    comment TEXT NOT NULL,              -- in their words
    at REAL NOT NULL,
    UNIQUE (approval, principal)        -- one answer each
) STRICT;

-- The append-only record. One entry per move, named by its event, written in the transaction that moves:
--   admit         allowed, but nobody can run it yet
--   start         allowed and claimed in the same commit: attempt 1 is about to be sent
--   park          a person must approve first; detail: approval_id
--   deny          policy says no
--   claim         an engine takes the lease of the next attempt, before anything is sent
--   settle        the downstream answered with a result
--   fail          the downstream answered with an error, or no attempt is left
--   retry         another attempt follows after a pause; detail: delay_s
--   lose          sent, and the answer is lost
--   ask           the downstream wants input from the requester
--   answer        the requester gave it
--   approve       the quorum is reached; detail: approval_id, comment
--   reject        a person said no; detail: approval_id, comment
--   expire        nobody decided, answered or started it in time; detail: reason
--   cancel        the requester or an admin withdrew it
--   resolve_done, resolve_failed, resolve_retry
--                 an admin found out what became of a call in doubt
--   evidence_done, evidence_failed
--                 the late answer of the lost attempt arrived
-- Entries that move nothing carry the state as it stays:
--   verdict       a person's answer that does not decide yet; detail: approval_id, kind, comment
--   any other     what the engine noted: joined, replayed, not sent, resumed by
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,                -- orders all entries of the store; never used twice: the last one stays
    call INTEGER NOT NULL                   -- whose
        REFERENCES calls (seq),
    at REAL NOT NULL,                       -- when
    event TEXT NOT NULL,                    -- what, as listed above
    state TEXT NOT NULL,                    -- the call's state after it
    attempt INTEGER NOT NULL,               -- the call's fence after it
    actor TEXT NOT NULL,                    -- who: a principal, an engine, a downstream, or "holdfast" for time and recovery
    detail TEXT                             -- JSON object; NULL where there is nothing to add
) STRICT;

CREATE INDEX journal_by_call ON journal (call);

CREATE TABLE catalogs (
    downstream TEXT PRIMARY KEY,        -- the server's name in the config
    identity TEXT NOT NULL,             -- digest of its command or url
    protocol_version TEXT NOT NULL,     -- what it spoke
    tools TEXT NOT NULL,                -- JSON array of wire tools
    instructions TEXT,                  -- what it tells models about itself
    seen_at REAL NOT NULL               -- when it was listed
) STRICT;
