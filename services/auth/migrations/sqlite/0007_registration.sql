-- Initial access tokens of dynamic registration (RFC 7591), kept as their SHA-256. Times are milliseconds since 1970 UTC.

CREATE TABLE registration_tokens (
    token_sha256 BLOB    NOT NULL PRIMARY KEY,
    scopes       TEXT    NOT NULL,  -- what clients may ask for that register with it, separated by spaces
    uses_left    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX registration_tokens_by_expiry ON registration_tokens (expires_at);
