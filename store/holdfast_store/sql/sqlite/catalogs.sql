-- Statements about the catalogs as last seen.

-- name: save
INSERT INTO catalogs (downstream, identity, protocol_version, tools, instructions, capabilities, conditional, seen_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (downstream) DO UPDATE SET
    identity = excluded.identity, protocol_version = excluded.protocol_version, tools = excluded.tools,
    instructions = excluded.instructions, capabilities = excluded.capabilities,
    conditional = excluded.conditional, seen_at = excluded.seen_at

-- name: all
SELECT downstream, identity, protocol_version, tools, instructions, capabilities, conditional, seen_at
FROM catalogs ORDER BY downstream
