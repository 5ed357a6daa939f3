-- Second factors, and logins in steps. What a person has goes with their account.

-- Authenticator apps that were confirmed; one a person.
CREATE TABLE totp (
    user_id     bytea  NOT NULL PRIMARY KEY REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- The shared secret, encrypted: nonce, ciphertext, tag.
    secret      bytea  NOT NULL,
    -- The id of the key that it was encrypted with.
    sealed_with text   NOT NULL,
    -- The step (30 seconds since 1970) of the last code that was taken; it only rises, so no code is taken twice.
    last_step   bigint NOT NULL,
    created_at  bigint NOT NULL,
    used_at     bigint NOT NULL
);

-- Authenticator apps that are yet to be confirmed. They live for minutes.
CREATE TABLE totp_enrolments (
    user_id     bytea  NOT NULL PRIMARY KEY REFERENCES accounts (user_id) ON DELETE CASCADE,
    secret      bytea  NOT NULL,
    sealed_with text   NOT NULL,
    expires_at  bigint NOT NULL
);

CREATE INDEX totp_enrolments_expiry ON totp_enrolments (expires_at);

-- Security keys and passkeys.
CREATE TABLE security_keys (
    id            bytea NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    user_id       bytea NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- As the key itself names it. No two accounts have one.
    credential_id bytea NOT NULL UNIQUE,
    -- What its owner calls it.
    name          text NOT NULL,
    -- Whether it signs in without a password.
    passkey       boolean NOT NULL,
    -- The public key and what else the library keeps, as JSON.
    credential    text NOT NULL,
    -- How often it was used, as it says itself; it only rises, or is 0 for ever.
    counter       bigint NOT NULL,
    created_at    bigint NOT NULL,
    used_at       bigint
);

CREATE INDEX security_keys_user ON security_keys (user_id);

-- Recovery codes that were not used yet: SHA-256 of the person and the code, which has 80 random bits.
CREATE TABLE recovery_codes (
    user_id    bytea  NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    digest     bytea  NOT NULL CHECK (octet_length(digest) = 32),
    created_at bigint NOT NULL,
    PRIMARY KEY (user_id, digest)
);

-- Logins under way, one row for each attempt; it goes when the last step is taken. They live for minutes, and after a crash of the
-- server people begin again, so they cost no flush to disk.
CREATE UNLOGGED TABLE logins (
    -- SHA-256 of the secret that names the login.
    digest             bytea    NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- 1: the password is awaited; 2: a second factor is.
    step               smallint NOT NULL CHECK (step IN (1, 2)),
    -- In its normal form, whether or not anybody has it.
    handle             text     NOT NULL,
    client_id          text     NOT NULL,
    label              text     NOT NULL,
    -- SHA-256 of the browser and the request that a login on the page belongs to; empty for all others.
    bound_to           bytea    NOT NULL,
    -- Whose password it was, and which; null until then.
    user_id            bytea    REFERENCES accounts (user_id) ON DELETE CASCADE,
    credential_version bigint,
    expires_at         bigint   NOT NULL
);

CREATE INDEX logins_expiry ON logins (expires_at);
CREATE INDEX logins_user ON logins (user_id);

-- Ceremonies with security keys: a challenge and what belongs to it, taken out before an answer is looked at. They live for minutes.
CREATE UNLOGGED TABLE ceremonies (
    -- Of the login, or of the person who registers a key.
    digest     bytea NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- The library's, as JSON.
    state      text NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX ceremonies_expiry ON ceremonies (expires_at);
