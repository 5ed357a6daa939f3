-- The device flow (RFC 8628). Times are milliseconds since 1970 UTC; codes are kept as their SHA-256.
-- Pods of the version before do not know these tables. Clients that use the device flow are registered when all pods know them.

-- Devices whose people sign in by a browser elsewhere (RFC 8628). A row stays for a while after its use: whoever brings the code again
-- ends the session that it gave.
CREATE TABLE device_codes (
    device_sha256    BYTEA   NOT NULL PRIMARY KEY,
    user_code_sha256 BYTEA   NOT NULL UNIQUE,
    client_id        TEXT    NOT NULL,
    scopes           TEXT    NOT NULL,  -- separated by spaces
    address          TEXT    NOT NULL,
    session_id       BYTEA   NOT NULL,  -- the session that it gives
    stage            TEXT    NOT NULL CHECK (stage IN ('pending', 'denied', 'approved', 'used')),
    user_id          BYTEA,              -- who has approved it
    amr              TEXT    NOT NULL DEFAULT '',
    authenticated_at BIGINT,
    interval_ms      BIGINT NOT NULL,  -- how long the device has to wait between two questions
    next_poll_at     BIGINT NOT NULL,
    too_soon         BOOLEAN NOT NULL DEFAULT FALSE,  -- whether the last question came before that
    expires_at       BIGINT NOT NULL
);

CREATE INDEX device_codes_by_expiry ON device_codes (expires_at);
CREATE INDEX device_codes_of_address ON device_codes (address);
CREATE INDEX device_codes_of_user ON device_codes (user_id) WHERE user_id IS NOT NULL;

-- How often somebody tried user codes: a browser, or everyone at an address.
CREATE TABLE code_guesses (
    who_sha256 BYTEA   NOT NULL PRIMARY KEY,
    guesses    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL   -- when they are forgotten
);

CREATE INDEX code_guesses_by_expiry ON code_guesses (expires_at);
