-- Times are milliseconds since 1970 UTC. Ids of people and sessions are the 16 bytes of their UUID.

CREATE TABLE clients (
    client_id     TEXT    NOT NULL PRIMARY KEY,
    display_name  TEXT    NOT NULL,
    secret_sha256 BLOB,              -- NULL: a public client
    scopes        TEXT    NOT NULL,  -- separated by spaces
    created_at    INTEGER NOT NULL,
    deleted_at    INTEGER            -- set while its sessions are being ended; it counts as unknown from then on
) STRICT, WITHOUT ROWID;

-- What login has said about people. No row: nothing was said, so they are enabled.
CREATE TABLE subjects (
    user_id   BLOB    NOT NULL PRIMARY KEY,
    enabled   INTEGER NOT NULL,
    admin     INTEGER NOT NULL,
    erased_at INTEGER                -- an erased person stays refused for a day, against calls that were on their way
) STRICT, WITHOUT ROWID;

CREATE INDEX subjects_erased ON subjects (erased_at) WHERE erased_at IS NOT NULL;

-- One row is one live session and its family of refresh tokens. A session that ends is deleted.
CREATE TABLE sessions (
    session_id      BLOB    NOT NULL PRIMARY KEY,
    user_id         BLOB    NOT NULL,
    client_id       TEXT    NOT NULL,
    scopes          TEXT    NOT NULL,
    amr             TEXT    NOT NULL,  -- separated by spaces
    label           TEXT    NOT NULL,
    authenticated_at INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    last_use_at     INTEGER NOT NULL,  -- to the minute
    last_address    TEXT    NOT NULL,
    current_sha256  BLOB    NOT NULL,  -- the refresh token that is good now
    previous_sha256 BLOB,              -- the one that was exchanged for it
    rotated_at      INTEGER NOT NULL   -- when current_sha256 was issued
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_of_user ON sessions (user_id, session_id);
CREATE INDEX sessions_of_client ON sessions (client_id);
CREATE INDEX sessions_by_last_use ON sessions (last_use_at);
CREATE INDEX sessions_by_creation ON sessions (created_at);

-- What was revoked lately; kept longer than any access token that it concerns lives.
CREATE TABLE revocations (
    revocation_no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL CHECK (kind IN ('session', 'subject', 'token')),
    target        TEXT    NOT NULL,
    revoked_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX revocations_by_time ON revocations (revoked_at, revocation_no);

CREATE TABLE signing_keys (
    kid            TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint
    public_key     BLOB    NOT NULL,
    sealed_private BLOB    NOT NULL,  -- AES-256-GCM, bound to kid
    sealed_with    TEXT    NOT NULL,  -- the id of the key that sealed it
    published_at   INTEGER NOT NULL,
    activate_at    INTEGER,           -- NULL: the reserve
    retire_at      INTEGER,           -- when its successor took over
    remove_at      INTEGER            -- when it leaves the JWK set
) STRICT, WITHOUT ROWID;
