-- The authorization code flow. Times are milliseconds since 1970 UTC; what a browser or a client holds is kept as its SHA-256.

ALTER TABLE clients ADD COLUMN registration TEXT NOT NULL DEFAULT '{}';  -- how people sign in with it, JSON
ALTER TABLE sessions ADD COLUMN claims TEXT NOT NULL DEFAULT '';         -- what userinfo was asked for by name, separated by spaces

-- Keys that sign nothing but ID tokens; those of `signing_keys` are Ed25519.
CREATE TABLE id_token_keys (
    kid            TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint
    algorithm      TEXT    NOT NULL,
    public_key     BLOB    NOT NULL,
    sealed_private BLOB    NOT NULL,  -- AES-256-GCM, bound to kid
    sealed_with    TEXT    NOT NULL,
    published_at   INTEGER NOT NULL,
    activate_at    INTEGER,
    retire_at      INTEGER,
    remove_at      INTEGER,
    due_at         INTEGER
) STRICT, WITHOUT ROWID;

-- A browser that came to the authorization endpoint and has not been answered yet. A row is deleted with the answer.
CREATE TABLE login_requests (
    challenge_sha256 BLOB    NOT NULL PRIMARY KEY,
    browser_sha256   BLOB    NOT NULL,  -- the cookie of the browser, which alone may be answered
    address          TEXT    NOT NULL,
    stage            TEXT    NOT NULL CHECK (stage IN ('login', 'rejected', 'accepted', 'signed_in')),
    client_id        TEXT    NOT NULL,
    request          TEXT    NOT NULL,  -- what was asked for, checked, as JSON
    user_id          BLOB,              -- who has signed in
    amr              TEXT    NOT NULL DEFAULT '',
    authenticated_at INTEGER,
    expires_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX login_requests_by_expiry ON login_requests (expires_at);
CREATE INDEX login_requests_of_browser ON login_requests (browser_sha256);
CREATE INDEX login_requests_of_address ON login_requests (address);
CREATE INDEX login_requests_of_user ON login_requests (user_id) WHERE user_id IS NOT NULL;

-- Requests that clients have pushed (RFC 9126); good once.
CREATE TABLE pushed_requests (
    reference_sha256 BLOB    NOT NULL PRIMARY KEY,
    address          TEXT    NOT NULL,
    client_id        TEXT    NOT NULL,
    request          TEXT    NOT NULL,
    expires_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX pushed_requests_by_expiry ON pushed_requests (expires_at);
CREATE INDEX pushed_requests_of_address ON pushed_requests (address);

-- Authorization codes. A used one stays for a while: whoever brings it again ends the session that it gave.
CREATE TABLE codes (
    code_sha256 BLOB    NOT NULL PRIMARY KEY,
    session_id  BLOB    NOT NULL,   -- the session that it gives
    user_id     BLOB    NOT NULL,
    code        TEXT    NOT NULL,   -- what it is good for, JSON
    expires_at  INTEGER NOT NULL,
    used_at     INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX codes_by_expiry ON codes (expires_at);
CREATE INDEX codes_of_user ON codes (user_id);

-- Browsers in which someone is signed in.
CREATE TABLE browser_sessions (
    cookie_sha256    BLOB    NOT NULL PRIMARY KEY,
    user_id          BLOB    NOT NULL,
    amr              TEXT    NOT NULL,
    authenticated_at INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    last_use_at      INTEGER NOT NULL   -- to the minute
) STRICT, WITHOUT ROWID;

CREATE INDEX browser_sessions_of_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_by_last_use ON browser_sessions (last_use_at);
CREATE INDEX browser_sessions_by_creation ON browser_sessions (created_at);

CREATE TABLE consents (
    user_id    BLOB    NOT NULL,
    client_id  TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,   -- separated by spaces
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, client_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX consents_of_client ON consents (client_id);

-- What login said of people when they last signed in on its pages, for clients with the scope `profile`.
CREATE TABLE profiles (
    user_id      BLOB NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    handle       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
