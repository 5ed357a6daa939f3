//! Every statement of the store. Each says by which column Citus finds the shard: `conversation` and `person` statements name
//! it for each of their tables, `sweep` is the receivers' question about everything that changed lately, and `rare` ones serve
//! starts and upkeep. A test goes through all of them (`tests/plans.rs`).
//!
//! Messages and watermarks are mostly [`SEND`] and [`RAISE`]: one round trip, whatever their number. Where these do not fit, a batch
//! of messages is the lanes' locks with the beginning of the transaction, [`ACTORS`], [`REQUESTS`], [`RESERVE`], [`COUNT_SENT`],
//! [`APPEND`] and the commit: seven round trips.

/// The columns of a conversation `c`, for `rows::head`.
macro_rules! heads {
    () => {
        "c.no, c.conversation_id, c.kind, c.title, c.last_seq, c.last_public_seq, c.last_message_no, c.member_count, \
         c.deleted, c.created_at"
    };
}

/// The columns of a member `m`, for `rows::member`.
macro_rules! members {
    () => {
        "m.user_id, m.role, m.joined_seq, m.joined_at, m.past, m.delivered_seq, m.read_seq, m.read_message_no, m.sent_no, \
         m.read_sent_no, m.watermark_at, m.hidden_seq"
    };
}

/// The columns of an event `e`, for `rows::event`.
macro_rules! events {
    () => {
        "e.conversation_id, e.seq, e.message_no, e.kind, e.sender_id, e.request_id, e.request_digest, e.target_seq, \
         e.visible_to, e.body, e.created_at, e.deleted_at, e.edit_seq"
    };
}

/// The time, in milliseconds.
macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// What tells one database from another: the number that `initdb` gave the cluster, which replicas share, and the database's own.
macro_rules! identity {
    () => {
        "(SELECT system_identifier::text FROM pg_control_system()) || '/' || \
         (SELECT oid::text FROM pg_database WHERE datname = current_database())"
    };
}

flaghoist_runtime::statements! {
    /// The time of the database.
    Rare CLOCK = concat!("SELECT ", clock!());

    /// The epoch, begun now if there is none or if this is another database.
    Rare BEGIN_LIFE = concat!(
        "INSERT INTO life AS l (id, epoch, identity) SELECT 1, $1, ", identity!(), " ON CONFLICT (id) DO UPDATE SET ",
        "epoch = CASE WHEN l.identity = excluded.identity THEN l.epoch ELSE excluded.epoch END, ",
        "identity = excluded.identity RETURNING epoch"
    );

    /// Another epoch.
    Rare RENEW_LIFE = concat!(
        "INSERT INTO life (id, epoch, identity) SELECT 1, $1, ", identity!(), " ON CONFLICT (id) DO UPDATE SET ",
        "epoch = excluded.epoch, identity = excluded.identity RETURNING epoch"
    );

    /// The epoch, if this is still the same database.
    Rare LIFE = concat!("SELECT l.epoch FROM life l WHERE l.id = 1 AND l.identity = ", identity!());

    /// The first of the numbers for the conversations that a batch begins.
    Rare NUMBERS = "SELECT nextval('conversation_numbers')";

    /// Has numbers for conversations begin after those that are there.
    Rare NUMBERS_BEYOND = "SELECT setval('conversation_numbers', (SELECT max(c.no) FROM conversations c))";

    /// Locks of a kind, in the order given: one who holds the first never waits for one who holds the second.
    Rare LOCK_PEOPLE = "SELECT pg_advisory_xact_lock($1, lane) FROM unnest($2::integer[]) AS lane";

    /// One message for each of some conversations: the lanes are locked, requests that are in the log are left out, members
    /// count what they send, conversations give numbers and the time, and what got a number is appended. Someone who is no member
    /// any more by the time that their row is had is left out too, before anything was numbered for them.
    Conversation SEND = concat!(
        "WITH lanes AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1, lane) FROM unnest($2::integer[]) AS lane), \
         calls AS MATERIALIZED (SELECT t.* FROM (SELECT count(*) AS lanes FROM lanes) AS held, \
         unnest($3::uuid[], $4::uuid[], $5::bytea[], $6::bytea[], $7::bytea[]) \
         AS t (conversation_id, sender_id, request_id, request_digest, body) WHERE held.lanes > 0 AND NOT EXISTS \
         (SELECT FROM events e WHERE e.conversation_id = t.conversation_id AND e.sender_id = t.sender_id \
         AND e.request_id = t.request_id) ORDER BY t.conversation_id), \
         senders AS (UPDATE members m SET sent_no = m.sent_no + 1 FROM calls t \
         WHERE m.conversation_id = t.conversation_id AND m.user_id = t.sender_id AND m.role > 0 RETURNING t.*, m.sent_no), \
         numbered AS (UPDATE conversations c SET last_seq = c.last_seq + 1, last_public_seq = c.last_seq + 1, \
         last_message_no = c.last_message_no + 1 FROM senders t WHERE c.conversation_id = t.conversation_id \
         RETURNING t.*, c.last_seq AS seq, c.last_message_no AS message_no, ", clock!(), " AS created_at) \
         INSERT INTO events (conversation_id, sender_id, seq, message_no, sent_no, created_at, kind, request_id, \
         request_digest, body) SELECT t.conversation_id, t.sender_id, t.seq, t.message_no, t.sent_no, t.created_at, 1, \
         t.request_id, t.request_digest, t.body FROM numbered t RETURNING conversation_id, seq, message_no, created_at"
    );

    /// Watermarks of members, where they rise, not beyond the end of the log; one of what was read only to its end, where all
    /// messages lie before it, own ones too. The row is had in its newest form, the conversation as it was when the
    /// statement began: who has sent something since then is left out.
    Conversation RAISE = concat!(
        "WITH lanes AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1, lane) FROM unnest($2::integer[]) AS lane), \
         marks AS MATERIALIZED (SELECT t.* FROM (SELECT count(*) AS lanes FROM lanes) AS held, \
         unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[]) AS t (conversation_id, user_id, delivered_seq, read_seq) \
         WHERE held.lanes > 0 ORDER BY t.conversation_id, t.user_id), \
         risen AS (UPDATE members m SET delivered_seq = greatest(m.delivered_seq, t.delivered_seq, t.read_seq), \
         read_seq = greatest(m.read_seq, t.read_seq), read_message_no = CASE WHEN t.read_seq > m.read_seq \
         THEN greatest(m.read_message_no, c.last_message_no) ELSE m.read_message_no END, \
         read_sent_no = CASE WHEN t.read_seq > m.read_seq THEN greatest(m.read_sent_no, m.sent_no) ELSE m.read_sent_no END, \
         watermark_at = ", clock!(), " FROM marks t \
         JOIN conversations c ON c.conversation_id = t.conversation_id \
         JOIN members s ON s.conversation_id = t.conversation_id AND s.user_id = t.user_id \
         WHERE m.conversation_id = t.conversation_id AND m.user_id = t.user_id AND m.role > 0 \
         AND greatest(t.delivered_seq, t.read_seq) <= greatest(c.last_public_seq, m.hidden_seq) \
         AND (t.delivered_seq > m.delivered_seq OR t.read_seq > m.read_seq) \
         AND (t.read_seq <= m.read_seq OR (t.read_seq >= c.last_public_seq AND m.sent_no = s.sent_no)) \
         RETURNING m.conversation_id, m.user_id, m.delivered_seq, m.read_seq, c.member_count, m.watermark_at), \
         noted AS (INSERT INTO receipts (conversation_id, raised_at) SELECT r.conversation_id, max(r.watermark_at) \
         FROM risen r WHERE r.member_count <= $7 GROUP BY r.conversation_id) \
         SELECT r.conversation_id, r.user_id, r.delivered_seq, r.read_seq, r.member_count FROM risen r"
    );

    /// The conversations of a batch with those who act in them, and the time.
    Conversation ACTORS = concat!(
        "SELECT ", heads!(), ", ", members!(), ", ", clock!(),
        " FROM unnest($1::uuid[], $2::uuid[]) AS t (conversation_id, user_id) \
         JOIN conversations c ON c.conversation_id = t.conversation_id \
         JOIN members m ON m.conversation_id = t.conversation_id AND m.user_id = t.user_id"
    );

    /// People whom calls of a batch name.
    Conversation NAMED = concat!(
        "SELECT ", members!(), ", m.conversation_id FROM unnest($1::uuid[], $2::uuid[]) AS t (conversation_id, user_id) \
         JOIN members m ON m.conversation_id = t.conversation_id AND m.user_id = t.user_id"
    );

    /// Everyone in some conversations, whose role is at least the given one.
    Conversation EVERYONE = concat!(
        "SELECT ", members!(), ", m.conversation_id FROM members m WHERE m.conversation_id = ANY($1) AND m.role >= $2"
    );

    /// Where requests of a batch are in the log, if they are.
    Conversation REQUESTS =
        "SELECT t.place, e.seq FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) WITH ORDINALITY \
         AS t (conversation_id, sender_id, request_id, place) \
         JOIN events e ON e.conversation_id = t.conversation_id AND e.sender_id = t.sender_id \
         AND e.request_id = t.request_id";

    /// Events at given places.
    Conversation EVENTS_AT = concat!(
        "SELECT ", events!(), " FROM unnest($1::uuid[], $2::bigint[]) AS t (conversation_id, seq) \
         JOIN events e ON e.conversation_id = t.conversation_id AND e.seq = t.seq"
    );

    /// What lies before places in the log; own messages are looked for only where there are some. They are looked for from the
    /// place back, where the last one is near, and not among all that the person ever sent: so the sender is compared in a way
    /// that no index serves.
    Conversation READ_POINTS =
        "SELECT t.place, e.message_no, CASE WHEN t.own THEN (SELECT o.sent_no FROM events o \
         WHERE o.conversation_id = e.conversation_id AND o.seq > t.read_seq AND o.seq <= t.seq \
         AND o.sender_id IS NOT DISTINCT FROM t.user_id AND o.kind = 1 ORDER BY o.seq DESC LIMIT 1) END \
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::boolean[]) WITH ORDINALITY \
         AS t (conversation_id, user_id, read_seq, seq, own, place) \
         JOIN events e ON e.conversation_id = t.conversation_id AND e.seq = t.seq";

    /// How many conversations people are in.
    Person PEOPLE = "SELECT p.user_id, p.conversation_count FROM people p WHERE p.user_id = ANY($1)";

    /// Takes the numbers of a batch, where nobody else took some.
    Conversation RESERVE =
        "UPDATE conversations c SET last_seq = t.last_seq, last_public_seq = t.last_public_seq, \
         last_message_no = t.last_message_no \
         FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
         AS t (conversation_id, before_seq, last_seq, last_public_seq, last_message_no) \
         WHERE c.conversation_id = t.conversation_id AND c.last_seq = t.before_seq";

    /// New conversations.
    Conversation BEGIN =
        "INSERT INTO conversations (conversation_id, no, kind, title, last_seq, last_public_seq, last_message_no, \
         member_count, deleted, created_at) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bytea[], \
         $5::bigint[], $6::bigint[], $7::bigint[], $8::integer[], $9::boolean[], $10::bigint[])";

    /// What changes seldom in a conversation.
    Conversation SETTLE =
        "UPDATE conversations c SET title = t.title, member_count = t.member_count, deleted = t.deleted \
         FROM unnest($1::uuid[], $2::bytea[], $3::integer[], $4::boolean[]) \
         AS t (conversation_id, title, member_count, deleted) WHERE c.conversation_id = t.conversation_id";

    /// How many messages people sent.
    Conversation COUNT_SENT =
        "UPDATE members m SET sent_no = t.sent_no FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) \
         AS t (conversation_id, user_id, sent_no) WHERE m.conversation_id = t.conversation_id AND m.user_id = t.user_id";

    /// Members as they are now.
    Conversation KEEP_MEMBERS =
        "INSERT INTO members (conversation_id, user_id, role, joined_seq, joined_at, past, delivered_seq, read_seq, \
         read_message_no, sent_no, read_sent_no, watermark_at, hidden_seq) \
         SELECT t.conversation_id, t.user_id, t.role, t.joined_seq, t.joined_at, t.past::bigint[], t.delivered_seq, t.read_seq, \
         t.read_message_no, t.sent_no, t.read_sent_no, t.watermark_at, t.hidden_seq \
         FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
         AS t (conversation_id, user_id, role, joined_seq, joined_at, past, delivered_seq, read_seq, read_message_no, sent_no, \
         read_sent_no, watermark_at, hidden_seq) \
         ON CONFLICT (conversation_id, user_id) DO UPDATE SET role = excluded.role, joined_seq = excluded.joined_seq, \
         joined_at = excluded.joined_at, past = excluded.past, delivered_seq = excluded.delivered_seq, \
         read_seq = excluded.read_seq, read_message_no = excluded.read_message_no, sent_no = excluded.sent_no, \
         read_sent_no = excluded.read_sent_no, watermark_at = excluded.watermark_at, hidden_seq = excluded.hidden_seq";

    /// People who came to conversations.
    Person KEEP_MEMBERSHIPS =
        "INSERT INTO memberships (user_id, conversation_no, conversation_id) \
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) ON CONFLICT (user_id, conversation_no) DO NOTHING";

    /// Counts people's conversations up or down.
    Person COUNT_PEOPLE =
        "INSERT INTO people AS p (user_id, conversation_count) SELECT * FROM unnest($1::uuid[], $2::integer[]) \
         ON CONFLICT (user_id) DO UPDATE SET conversation_count = p.conversation_count + excluded.conversation_count";

    /// Appends to the logs.
    Conversation APPEND =
        "INSERT INTO events (conversation_id, sender_id, seq, message_no, sent_no, created_at, kind, request_id, \
         request_digest, body, target_seq, visible_to) \
         SELECT t.conversation_id, t.sender_id, t.seq, t.message_no, t.sent_no, $5, t.kind, t.request_id, t.request_digest, \
         t.body, t.target_seq, t.visible_to \
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $6::bigint[], $7::smallint[], $8::bytea[], \
         $9::bytea[], $10::bytea[], $11::bigint[], $12::uuid[]) \
         AS t (conversation_id, sender_id, seq, message_no, sent_no, kind, request_id, request_digest, body, target_seq, \
         visible_to)";

    /// The newest edits of messages.
    Conversation EDIT =
        "UPDATE events e SET edit_seq = t.edit_seq FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) \
         AS t (conversation_id, seq, edit_seq) WHERE e.conversation_id = t.conversation_id AND e.seq = t.seq";

    /// Overwrites messages.
    Conversation ERASE_MESSAGES =
        "UPDATE events e SET body = '', deleted_at = $3 FROM unnest($1::uuid[], $2::bigint[]) \
         AS t (conversation_id, seq) WHERE e.conversation_id = t.conversation_id AND e.seq = t.seq";

    /// Overwrites every edit of messages.
    Conversation ERASE_EDITS =
        "UPDATE events e SET body = t.body, deleted_at = $4 FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) \
         AS t (conversation_id, target_seq, body) \
         WHERE e.conversation_id = t.conversation_id AND e.target_seq = t.target_seq AND e.kind = 2";

    /// Overwrites what was kept of a person's requests in a stretch of a log, and titles where nobody else ever was. The place
    /// keeps them apart, as the index of requests asks, and is longer than what anybody may send.
    Conversation BLANK =
        "UPDATE events e SET request_id = convert_to('erased ' || lpad(e.seq::text, 80, '0'), 'UTF8'), request_digest = decode(repeat('00', 16), 'hex'), \
         body = CASE WHEN e.kind IN (4, 5) AND NOT EXISTS (SELECT FROM members o WHERE o.conversation_id = $1 AND o.user_id <> $2) \
         THEN '' ELSE e.body END \
         WHERE e.conversation_id = $1 AND e.seq BETWEEN $3 AND $4 AND e.sender_id IS NOT DISTINCT FROM $2";

    /// Forgets how far a person had read in conversations that they are in no more.
    Conversation FORGET_MARKS =
        "UPDATE members m SET delivered_seq = 0, read_seq = 0, read_message_no = 0, read_sent_no = 0, watermark_at = 0, \
         hidden_seq = 0 WHERE m.conversation_id = ANY($1) AND m.user_id = $2 AND m.role = 0";

    /// Overwrites the titles of conversations in which nobody else ever was.
    Conversation FORGET_TITLES =
        "UPDATE conversations c SET title = '' WHERE c.conversation_id = ANY($1) AND c.deleted AND NOT EXISTS \
         (SELECT FROM members o WHERE o.conversation_id = c.conversation_id AND o.user_id <> $2)";

    /// Forgets that a person was in conversations.
    Rare FORGET_MEMBERSHIPS =
        "DELETE FROM memberships s WHERE s.user_id = $1 AND s.conversation_id = ANY($2)";

    /// Forgets in how many conversations a person is.
    Rare FORGET_COUNT = "DELETE FROM people p WHERE p.user_id = $1";

    /// Notes where watermarks rose.
    Conversation NOTE_RECEIPTS =
        "INSERT INTO receipts (conversation_id, raised_at) SELECT t.conversation_id, $2 \
         FROM unnest($1::uuid[]) AS t (conversation_id)";

    /// Drops the notes that nobody asks for any more.
    Rare FORGET_RECEIPTS = concat!("DELETE FROM receipts WHERE raised_at < ", clock!(), " - $1");

    /// Conversations as a person sees them, with the other one of a direct conversation.
    Conversation VIEWS = concat!(
        "SELECT ", heads!(), ", ", members!(), ", o.user_id FROM conversations c \
         JOIN members m ON m.conversation_id = c.conversation_id AND m.user_id = $2 \
         LEFT JOIN members o ON o.conversation_id = c.conversation_id AND o.user_id <> $2 AND c.kind = 1 \
         WHERE c.conversation_id = ANY($1) ORDER BY c.no"
    );

    /// The next of the conversations that a person is or was in.
    Person MEMBERSHIPS =
        "SELECT s.conversation_id FROM memberships s WHERE s.user_id = $1 AND s.conversation_no > $2 \
         ORDER BY s.conversation_no LIMIT $3";

    /// The next members of a conversation.
    Conversation MEMBERS = concat!(
        "SELECT ", members!(), " FROM members m WHERE m.conversation_id = $1 AND m.user_id > $2 AND m.role > 0 \
         ORDER BY m.user_id LIMIT $3"
    );

    /// A stretch of a log, from its beginning.
    Conversation UP = concat!(
        "SELECT ", events!(), ", x.body, x.created_at FROM events e \
         LEFT JOIN events x ON x.conversation_id = e.conversation_id AND x.seq = e.edit_seq \
         WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3 ORDER BY e.seq LIMIT $4"
    );

    /// A stretch of a log, from its end.
    Conversation DOWN = concat!(
        "SELECT ", events!(), ", x.body, x.created_at FROM events e \
         LEFT JOIN events x ON x.conversation_id = e.conversation_id AND x.seq = e.edit_seq \
         WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3 ORDER BY e.seq DESC LIMIT $4"
    );

    /// Members whose watermarks rose since a time.
    Conversation RISEN = concat!(
        "SELECT ", members!(), ", m.conversation_id FROM members m \
         WHERE m.conversation_id = ANY($1) AND m.watermark_at >= $2 AND m.role > 0"
    );

    /// Conversations that changed since a time, each with the first event of that time by which somebody came or went.
    Sweep CHANGED =
        "SELECT c.no, c.conversation_id, c.last_seq, c.member_count, t.people_seq FROM ( \
         SELECT u.conversation_id, min(u.people_seq) AS people_seq FROM ( \
         SELECT e.conversation_id, CASE WHEN e.kind IN (4, 6, 8, 9) THEN e.seq END AS people_seq FROM events e \
         WHERE e.created_at >= $1 \
         UNION ALL SELECT r.conversation_id, NULL::bigint FROM receipts r WHERE r.raised_at >= $1) AS u \
         GROUP BY u.conversation_id) AS t \
         JOIN conversations c ON c.conversation_id = t.conversation_id WHERE c.no > $2 ORDER BY c.no LIMIT $3";

    /// Events by which people came and went: beginnings, ends, additions and removals.
    Conversation PEOPLE_CHANGED =
        "SELECT e.conversation_id, e.seq, e.kind, e.body FROM unnest($1::uuid[], $2::bigint[]) AS t (conversation_id, seq) \
         JOIN events e ON e.conversation_id = t.conversation_id AND e.seq >= t.seq AND e.kind IN (4, 6, 8, 9) \
         ORDER BY e.conversation_id, e.seq";
}
