-- Tools that a downstream lists only to clients that can be asked: an array of {capabilities, tools, beside}, one for
-- each kind of client, by what such a client declares. `beside` is the digest of the listing that all others see.

ALTER TABLE catalogs ADD COLUMN conditional TEXT;  -- JSON array, the kind listed last at the end; NULL where none was
