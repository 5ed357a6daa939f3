-- Devices of people, and what each has acknowledged in each conversation. Every key begins with the person, by whom the tables are
-- distributed where there is more than one database. Times are milliseconds since 1970.

CREATE TABLE devices (
    user_id      BLOB    NOT NULL CHECK (length(user_id) = 16),
    device_id    TEXT    NOT NULL CHECK (length(device_id) BETWEEN 1 AND 64),
    -- The stream that may acknowledge; a newer one takes its place.
    stream_id    BLOB    NOT NULL CHECK (length(stream_id) = 16),
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_by_last_seen ON devices (last_seen_at);

CREATE TABLE positions (
    user_id         BLOB    NOT NULL,
    device_id       TEXT    NOT NULL,
    conversation_id BLOB    NOT NULL CHECK (length(conversation_id) = 16),
    -- The epoch of the log that the position belongs to; an unsigned number kept in the bits of a signed one.
    epoch           INTEGER NOT NULL,
    acked_seq       INTEGER NOT NULL CHECK (acked_seq >= 0),
    PRIMARY KEY (user_id, device_id, conversation_id)
) STRICT, WITHOUT ROWID;
