-- Second factors, and logins in steps. What a person has goes with their account.

-- Authenticator apps that were confirmed; one a person.
CREATE TABLE totp (
    user_id     BLOB    NOT NULL PRIMARY KEY REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- The shared secret, encrypted: nonce, ciphertext, tag.
    secret      BLOB    NOT NULL,
    -- The id of the key that it was encrypted with.
    sealed_with TEXT    NOT NULL,
    -- The step (30 seconds since 1970) of the last code that was taken; it only rises, so no code is taken twice.
    last_step   INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Authenticator apps that are yet to be confirmed. They live for minutes.
CREATE TABLE totp_enrolments (
    user_id     BLOB    NOT NULL PRIMARY KEY REFERENCES accounts (user_id) ON DELETE CASCADE,
    secret      BLOB    NOT NULL,
    sealed_with TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_enrolments_expiry ON totp_enrolments (expires_at);

-- Security keys and passkeys.
CREATE TABLE security_keys (
    id            BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id       BLOB NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- As the key itself names it. No two accounts have one.
    credential_id BLOB NOT NULL UNIQUE,
    -- What its owner calls it.
    name          TEXT NOT NULL,
    -- Whether it signs in without a password.
    passkey       INTEGER NOT NULL CHECK (passkey IN (0, 1)),
    -- The public key and what else the library keeps, as JSON.
    credential    TEXT NOT NULL,
    -- How often it was used, as it says itself; it only rises, or is 0 for ever.
    counter       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    used_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX security_keys_user ON security_keys (user_id);

-- Recovery codes that were not used yet: SHA-256 of the person and the code, which has 80 random bits.
CREATE TABLE recovery_codes (
    user_id    BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

-- Logins under way, one row for each attempt; it goes when the last step is taken. They live for minutes.
CREATE TABLE logins (
    -- SHA-256 of the secret that names the login.
    digest             BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    -- 1: the password is awaited; 2: a second factor is.
    step               INTEGER NOT NULL CHECK (step IN (1, 2)),
    -- In its normal form, whether or not anybody has it.
    handle             TEXT    NOT NULL,
    client_id          TEXT    NOT NULL,
    label              TEXT    NOT NULL,
    -- SHA-256 of the browser and the request that a login on the page belongs to; empty for all others.
    bound_to           BLOB    NOT NULL,
    -- Whose password it was, and which; null until then.
    user_id            BLOB    REFERENCES accounts (user_id) ON DELETE CASCADE,
    credential_version INTEGER,
    expires_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX logins_expiry ON logins (expires_at);
CREATE INDEX logins_user ON logins (user_id);

-- Ceremonies with security keys: a challenge and what belongs to it, taken out before an answer is looked at. They live for minutes.
CREATE TABLE ceremonies (
    -- Of the login, or of the person who registers a key.
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    -- The library's, as JSON.
    state      TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ceremonies_expiry ON ceremonies (expires_at);
