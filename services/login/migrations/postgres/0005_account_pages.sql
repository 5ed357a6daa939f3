-- Browsers that are signed in to the account pages, with the tokens that the issuer gave for each. They live for hours, and after a
-- crash of the server people sign in again, so they cost no flush to disk.
CREATE UNLOGGED TABLE account_sessions (
    -- SHA-256 of the cookie.
    digest      bytea  NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    user_id     bytea  NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- The tokens, encrypted: nonce, ciphertext, tag.
    tokens      bytea  NOT NULL,
    -- The id of the key that they were encrypted with.
    sealed_with text   NOT NULL,
    created_at  bigint NOT NULL,
    used_at     bigint NOT NULL
);

CREATE INDEX account_sessions_user ON account_sessions (user_id);
CREATE INDEX account_sessions_use ON account_sessions (used_at);
