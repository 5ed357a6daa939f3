//! Every statement of the store. Each says whether Citus finds the shard by the person, whom it names for each of its tables; the one
//! that does not is no part of any call. A test goes through all of them (`tests/plans.rs`).
//!
//! Acknowledgements, which are nearly all that is written, are [`ACKNOWLEDGE`]: one round trip, whatever their number. Every other batch
//! is the lanes' locks with the beginning of the transaction, [`DEVICES_OF`], a statement for each kind of row that changes, and the
//! commit.

flaghoist_runtime::statements! {
    /// The acknowledgements of devices whose row names the stream that they came on: the lanes are locked, then the rows of the
    /// devices in the order of their keys, then positions rise in the order of theirs. What is stored already is not written again: a
    /// device that repeats itself costs no disk.
    Person ACKNOWLEDGE =
        "WITH lanes AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1, lane) FROM unnest($2::integer[]) AS lane), \
         devices AS MATERIALIZED (SELECT t.place, d.user_id, d.device_id FROM (SELECT count(*) AS lanes FROM lanes) AS held, \
         unnest($3::bytea[], $4::text[], $5::bytea[]) WITH ORDINALITY AS t (user_id, device_id, stream_id, place) \
         JOIN devices AS d ON d.user_id = t.user_id AND d.device_id = t.device_id \
         WHERE held.lanes > 0 AND (t.stream_id IS NULL OR t.stream_id = d.stream_id) \
         ORDER BY d.user_id, d.device_id FOR SHARE OF d), \
         raised AS (INSERT INTO positions AS p (user_id, device_id, conversation_id, epoch, acked_seq) \
         SELECT d.user_id, d.device_id, t.conversation_id, t.epoch, t.acked_seq FROM devices AS d \
         JOIN unnest($6::bigint[], $7::bytea[], $8::bigint[], $9::bigint[]) AS t (place, conversation_id, epoch, acked_seq) \
         ON t.place = d.place ORDER BY d.user_id, d.device_id, t.conversation_id \
         ON CONFLICT (user_id, device_id, conversation_id) DO UPDATE SET epoch = excluded.epoch, acked_seq = excluded.acked_seq \
         WHERE p.epoch <> excluded.epoch OR p.acked_seq < excluded.acked_seq) \
         SELECT place FROM devices";

    /// What a device has acknowledged.
    Person POSITIONS =
        "SELECT conversation_id, epoch, acked_seq FROM positions WHERE user_id = $1 AND device_id = $2";

    /// The devices of a person, in the order of the bytes of their ids, as everywhere else, not in that of a language.
    Person DEVICES =
        "SELECT device_id, created_at, last_seen_at, online_until FROM devices WHERE user_id = $1 \
         ORDER BY device_id COLLATE \"C\"";

    /// Which streams the rows of devices name.
    Person STREAMS =
        "SELECT k.place, d.stream_id FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS k (user_id, device_id, place) \
         JOIN devices AS d ON d.user_id = k.user_id AND d.device_id = k.device_id";

    /// The devices of the people whom a batch is about.
    Person DEVICES_OF =
        "SELECT user_id, device_id, stream_id, created_at, last_seen_at, online_until FROM devices \
         WHERE user_id = ANY($1::bytea[])";

    /// Forgets everything that devices have acknowledged.
    Person WIPE =
        "DELETE FROM positions AS p USING unnest($1::bytea[], $2::text[]) AS k (user_id, device_id) \
         WHERE p.user_id = k.user_id AND p.device_id = k.device_id";

    /// Forgets what devices have acknowledged in some conversations.
    Person FORGET =
        "DELETE FROM positions AS p USING unnest($1::bytea[], $2::text[], $3::bytea[]) AS k (user_id, device_id, conversation_id) \
         WHERE p.user_id = k.user_id AND p.device_id = k.device_id AND p.conversation_id = k.conversation_id";

    /// Removes devices.
    Person DELETE =
        "DELETE FROM devices AS d USING unnest($1::bytea[], $2::text[]) AS k (user_id, device_id) \
         WHERE d.user_id = k.user_id AND d.device_id = k.device_id";

    /// Devices as they are now.
    Person WRITE =
        "INSERT INTO devices (user_id, device_id, stream_id, created_at, last_seen_at, online_until) \
         SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[]) \
         ON CONFLICT (user_id, device_id) DO UPDATE SET stream_id = excluded.stream_id, \
         created_at = excluded.created_at, last_seen_at = excluded.last_seen_at, online_until = excluded.online_until";

    /// Positions as they are now, where they are not: a device that repeats itself costs no disk.
    Person RAISE =
        "INSERT INTO positions AS p (user_id, device_id, conversation_id, epoch, acked_seq) \
         SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) \
         ON CONFLICT (user_id, device_id, conversation_id) DO UPDATE SET epoch = excluded.epoch, acked_seq = excluded.acked_seq \
         WHERE p.epoch <> excluded.epoch OR p.acked_seq < excluded.acked_seq";

    /// Devices that were not used since a time. Once an hour, by reading the table: the one question here that does not name the person.
    Rare UNUSED = "SELECT user_id, device_id FROM devices WHERE last_seen_at < $1 ORDER BY last_seen_at LIMIT $2";

    /// Removes those of them that were not used meanwhile either.
    Person EXPIRE =
        "DELETE FROM devices AS d USING unnest($1::bytea[], $2::text[]) AS k (user_id, device_id) \
         WHERE d.user_id = k.user_id AND d.device_id = k.device_id AND d.last_seen_at < $3 \
         RETURNING d.user_id, d.device_id";
}
