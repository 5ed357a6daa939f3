-- Initial access tokens of dynamic registration (RFC 7591), kept as their SHA-256. Times are milliseconds since 1970 UTC.
-- Pods of the version before do not know this table, nor the endpoint.

CREATE TABLE registration_tokens (
    token_sha256 BYTEA  NOT NULL PRIMARY KEY,
    scopes       TEXT   NOT NULL,  -- what clients may ask for that register with it, separated by spaces
    uses_left    BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);

CREATE INDEX registration_tokens_by_expiry ON registration_tokens (expires_at);
