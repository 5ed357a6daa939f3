-- Back-channel logout: clients that have to be told of the end of a session. A row is written with the end, and deleted when the client
-- was told or cannot be. Times are milliseconds since 1970 UTC.

CREATE TABLE logout_notices (
    session_id  BLOB    NOT NULL PRIMARY KEY,
    client_id   TEXT    NOT NULL,
    user_id     BLOB    NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    next_try_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX logout_notices_by_time ON logout_notices (next_try_at);
