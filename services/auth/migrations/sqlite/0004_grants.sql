-- What is good once and ends by itself. Times are milliseconds since 1970 UTC.

-- The ids of assertions of clients, for as long as they could be brought again.
CREATE TABLE used_ids (
    id_sha256  BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_ids_by_expiry ON used_ids (expires_at);
