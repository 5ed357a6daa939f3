-- Accounts, what proves them, invitations, attempts at guessing, and what the issuer has yet to be told.
-- Times are milliseconds since 1970 in UTC; ids are the 16 bytes of a UUID.

CREATE TABLE accounts (
    user_id            BLOB    NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    handle             TEXT    NOT NULL UNIQUE,
    display_name       TEXT    NOT NULL,
    -- argon2id in PHC form.
    password_hash      TEXT    NOT NULL,
    -- Rises whenever a session opened before must not live on: new password, disabled.
    credential_version INTEGER NOT NULL DEFAULT 1,
    admin              INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    disabled           INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    -- Set once the person has asked for deletion; the row goes when the issuer has forgotten them.
    deleting_at        INTEGER,
    created_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The few admins are counted whenever one of them is to go.
CREATE INDEX accounts_admins ON accounts (user_id) WHERE admin = 1;

CREATE TABLE invitations (
    -- SHA-256 of the code, which has 128 random bits.
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_expiry ON invitations (expires_at);

-- One row for an account and an address, and one for an account and all addresses that it never was signed in from.
-- Both are keyed digests: unknown handles have rows too, and no address is kept in clear.
CREATE TABLE attempts (
    account    BLOB    NOT NULL,
    address    BLOB    NOT NULL,
    -- Attempts since the last success.
    count      INTEGER NOT NULL,
    -- No attempt before that time.
    next_at    INTEGER NOT NULL,
    -- When the right password last came from there; null for never.
    known_at   INTEGER,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_age ON attempts (updated_at);

-- What the issuer has yet to be told. A row is written with the change that it is about and removed once the issuer
-- has answered, so that a crash between the two forgets nothing.
CREATE TABLE notices (
    -- Never used again, so that removing a row that was told cannot remove the one that took its place.
    id             INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id        BLOB    NOT NULL,
    -- 1: the subject's state; 2: its sessions end; 3: it is erased.
    kind           INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),
    -- For kind 2: the session that stays; empty for none.
    except_session TEXT    NOT NULL DEFAULT '',
    created_at     INTEGER NOT NULL,
    -- A newer notice of a kind takes the place of the older one.
    UNIQUE (user_id, kind)
) STRICT;
