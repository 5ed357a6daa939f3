-- Devices of people, and what each has acknowledged in each conversation. Every key begins with the person, by whom the tables are
-- distributed where there is more than one database. Times are milliseconds since 1970, ids the 16 bytes of their UUID. Several pods
-- read and write these tables at once, also pods of the version before: only add, and take away two versions later.

-- No index but the key: a device that is seen, or opens a stream, then changes no index, and the free space in the pages lets the
-- new row stay beside the old one. Unused devices are looked for once an hour, by reading the table.
CREATE TABLE devices (
    user_id      BYTEA  NOT NULL CHECK (length(user_id) = 16),
    device_id    TEXT   NOT NULL CHECK (length(device_id) BETWEEN 1 AND 64),
    -- The stream that may acknowledge; a newer one takes its place.
    stream_id    BYTEA  NOT NULL CHECK (length(stream_id) = 16),
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    -- Until then the stream counts as open, unless its pod says so again.
    online_until BIGINT NOT NULL,
    PRIMARY KEY (user_id, device_id)
) WITH (fillfactor = 80);

CREATE TABLE positions (
    user_id         BYTEA  NOT NULL CHECK (length(user_id) = 16),
    device_id       TEXT   NOT NULL,
    conversation_id BYTEA  NOT NULL CHECK (length(conversation_id) = 16),
    -- The epoch of the log that the position belongs to; an unsigned number kept in the bits of a signed one.
    epoch           BIGINT NOT NULL,
    acked_seq       BIGINT NOT NULL CHECK (acked_seq >= 0),
    PRIMARY KEY (user_id, device_id, conversation_id)
) WITH (fillfactor = 80);
