-- How people are reached, what is on its way to them, what happened to their accounts, and links by which a password is set anew.

-- What applications are told where the person agrees; free text.
ALTER TABLE accounts ADD COLUMN postal_address TEXT NOT NULL DEFAULT '';
-- The language of what the person is sent, as a tag such as `zh-CN`; empty while nobody has said.
ALTER TABLE accounts ADD COLUMN language TEXT NOT NULL DEFAULT '';
-- Rises with whatever applications are told about the person, and up to which the issuer knows it.
ALTER TABLE accounts ADD COLUMN profile_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN profile_told INTEGER NOT NULL DEFAULT 0;

CREATE INDEX accounts_profile_untold ON accounts (user_id) WHERE profile_told < profile_version;

-- Contacts that their owner has shown to read; one of a kind a person.
CREATE TABLE contacts (
    user_id     BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- 1: email; 2: phone.
    kind        INTEGER NOT NULL CHECK (kind IN (1, 2)),
    -- In its normal form.
    value       TEXT    NOT NULL,
    verified_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX contacts_value ON contacts (value);

-- Contacts to which a code was sent that nobody has brought yet. They live for minutes.
CREATE TABLE contact_changes (
    user_id    BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    kind       INTEGER NOT NULL CHECK (kind IN (1, 2)),
    value      TEXT    NOT NULL,
    -- A keyed digest of the person, the contact and the code.
    code       BLOB    NOT NULL CHECK (length(code) = 32),
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX contact_changes_expiry ON contact_changes (expires_at);

-- Messages to people. A row is written with the change that it is about and removed once the message was handed over, or is of no use
-- any more.
CREATE TABLE outbox (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id     BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- To whom and what, encrypted: it has codes and links in it.
    message     BLOB    NOT NULL,
    sealed_with TEXT    NOT NULL,
    -- How often it was tried.
    tries       INTEGER NOT NULL DEFAULT 0,
    -- Nobody tries it before that time: it is somebody's until then, or was put off.
    next_at     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_due ON outbox (next_at);
CREATE INDEX outbox_user ON outbox (user_id);

-- What happened to an account, for its owner to look at: the last of each kind.
CREATE TABLE login_events (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id   BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    kind      INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    -- An IPv4 address, or the /64 of an IPv6 address.
    address   TEXT    NOT NULL,
    -- What the program called itself.
    agent     TEXT    NOT NULL,
    -- The same without its versions, by which a device is known again.
    device    TEXT    NOT NULL,
    -- How the person proved who they are (RFC 8176), separated by spaces.
    amr       TEXT    NOT NULL,
    client_id TEXT    NOT NULL
) STRICT;

CREATE INDEX login_events_user ON login_events (user_id, id);
CREATE INDEX login_events_age ON login_events (at);

-- Links by which a password is set anew. They live for minutes.
CREATE TABLE password_resets (
    -- SHA-256 of the secret in the link.
    digest             BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id            BLOB    NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
    -- Of the password that it replaces, and of no later one.
    credential_version INTEGER NOT NULL,
    expires_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX password_resets_user ON password_resets (user_id);
CREATE INDEX password_resets_expiry ON password_resets (expires_at);
