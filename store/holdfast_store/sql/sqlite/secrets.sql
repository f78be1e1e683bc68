-- Statements about secrets that every engine of the store shares.

-- name: keep
INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING

-- name: get
SELECT value FROM secrets WHERE name = ?
