-- What is good once and ends by itself. Times are milliseconds since 1970 UTC.
-- Pods of the version before read and write beside: they do not know this table. Clients that sign assertions are registered when all
-- pods know it.

-- The ids of assertions of clients, for as long as they could be brought again.
CREATE TABLE used_ids (
    id_sha256  BYTEA   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX used_ids_by_expiry ON used_ids (expires_at);
