-- Browsers that are signed in to the account pages, with the tokens that the issuer gave for each. They live for hours.
CREATE TABLE account_sessions (
    -- SHA-256 of the cookie.
    digest      BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id     BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- The tokens, encrypted: nonce, ciphertext, tag.
    tokens      BLOB    NOT NULL,
    -- The id of the key that they were encrypted with.
    sealed_with TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX account_sessions_user ON account_sessions (user_id);
CREATE INDEX account_sessions_use ON account_sessions (used_at);
