-- Times are milliseconds since 1970 UTC. Ids of people and sessions are the 16 bytes of their UUID.
-- Several pods read and write these tables at once, also pods of the version before: only add, and take away two versions later.

CREATE TABLE clients (
    client_id     TEXT   NOT NULL PRIMARY KEY,
    display_name  TEXT   NOT NULL,
    secret_sha256 BYTEA,             -- NULL: a public client
    scopes        TEXT   NOT NULL,   -- separated by spaces
    created_at    BIGINT NOT NULL,
    deleted_at    BIGINT             -- set while its sessions are being ended; it counts as unknown from then on
);

-- What login has said about people. No row: nothing was said, so they are enabled.
CREATE TABLE subjects (
    user_id   BYTEA   NOT NULL PRIMARY KEY,
    enabled   BOOLEAN NOT NULL,
    admin     BOOLEAN NOT NULL,
    erased_at BIGINT                 -- an erased person stays refused for a day, against calls that were on their way
);

CREATE INDEX subjects_erased ON subjects (erased_at) WHERE erased_at IS NOT NULL;

-- One row is one live session and its family of refresh tokens. A session that ends is deleted. A refresh within the same minute
-- changes no indexed column; the free space in the pages lets it stay in its page then, and the indexes are left alone.
CREATE TABLE sessions (
    session_id       BYTEA  NOT NULL PRIMARY KEY,
    user_id          BYTEA  NOT NULL,
    client_id        TEXT   NOT NULL,
    scopes           TEXT   NOT NULL,
    amr              TEXT   NOT NULL,  -- separated by spaces
    label            TEXT   NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    last_use_at      BIGINT NOT NULL,  -- to the minute
    last_address     TEXT   NOT NULL,
    current_sha256   BYTEA  NOT NULL,  -- the refresh token that is good now
    previous_sha256  BYTEA,            -- the one that was exchanged for it
    rotated_at       BIGINT NOT NULL   -- when current_sha256 was issued
) WITH (fillfactor = 80);

CREATE INDEX sessions_of_user ON sessions (user_id, session_id);
CREATE INDEX sessions_of_client ON sessions (client_id);
CREATE INDEX sessions_by_last_use ON sessions (last_use_at);
CREATE INDEX sessions_by_creation ON sessions (created_at);

-- What was revoked lately; kept longer than any access token that it concerns lives. The numbers come from `counters`, not from a
-- sequence: a sequence gives numbers in the order of asking, and a reader that has seen 43 would miss 42 when that is committed later.
CREATE TABLE revocations (
    revocation_no BIGINT NOT NULL PRIMARY KEY,
    kind          TEXT   NOT NULL CHECK (kind IN ('session', 'subject', 'token')),
    target        TEXT   NOT NULL,
    revoked_at    BIGINT NOT NULL
);

CREATE INDEX revocations_by_time ON revocations (revoked_at, revocation_no);

CREATE TABLE signing_keys (
    kid            TEXT   NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint
    public_key     BYTEA  NOT NULL,
    sealed_private BYTEA  NOT NULL,  -- AES-256-GCM, bound to kid
    sealed_with    TEXT   NOT NULL,  -- the id of the key that sealed it
    published_at   BIGINT NOT NULL,
    activate_at    BIGINT,           -- NULL: the reserve
    retire_at      BIGINT,           -- when its successor took over
    remove_at      BIGINT            -- when it leaves the JWK set
);

-- A row here is locked from the change that it counts until that is committed, so its order is the order of the commits.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) WITH (fillfactor = 50);

INSERT INTO counters (name, value) VALUES
    ('revocations', 0),  -- the number of the last revocation
    ('clients', 0);      -- how often the clients changed
