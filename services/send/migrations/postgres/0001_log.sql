-- Conversations, their members and their logs, for pods that share one database. Each table carries the column by which Citus
-- would distribute it (`conversation_id` or `user_id`) in every key. Times are milliseconds by the database's clock. Request ids
-- and titles are bytes: any text may come, also one that holds a zero, which `text` refuses; and bytes compare faster.

-- Numbers for conversations, in the order in which they were begun. A batch that begins some takes a block of them.
CREATE SEQUENCE conversation_numbers INCREMENT BY 4096;

-- Which life of the store this is, and which server and database it was begun on.
CREATE TABLE life (
    id smallint PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL,
    identity text NOT NULL
);

-- The room in each page keeps the new version of a row beside the old one, so that no index is touched.
CREATE TABLE conversations (
    conversation_id uuid PRIMARY KEY,
    no bigint NOT NULL,
    last_seq bigint NOT NULL,
    -- The newest event that is not for one person alone.
    last_public_seq bigint NOT NULL,
    last_message_no bigint NOT NULL,
    created_at bigint NOT NULL,
    member_count integer NOT NULL,
    kind smallint NOT NULL,
    deleted boolean NOT NULL,
    title bytea NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE members (
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    joined_seq bigint NOT NULL,
    joined_at bigint NOT NULL,
    delivered_seq bigint NOT NULL,
    read_seq bigint NOT NULL,
    read_message_no bigint NOT NULL,
    sent_no bigint NOT NULL,
    read_sent_no bigint NOT NULL,
    watermark_at bigint NOT NULL,
    hidden_seq bigint NOT NULL,
    -- 0 for those who are not members any more.
    role smallint NOT NULL,
    -- Where earlier memberships began and ended: first, last, first, last, …
    past bigint[] NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 70);

-- The conversations that a person is or was in.
CREATE TABLE memberships (
    user_id uuid NOT NULL,
    conversation_no bigint NOT NULL,
    conversation_id uuid NOT NULL,
    PRIMARY KEY (user_id, conversation_no)
);

-- How many conversations a person is in now.
CREATE TABLE people (
    user_id uuid PRIMARY KEY,
    conversation_count integer NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE events (
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    seq bigint NOT NULL,
    -- How many messages there are up to this event.
    message_no bigint NOT NULL,
    -- How many messages of the same sender there are up to this event; 0 for other kinds.
    sent_no bigint NOT NULL,
    created_at bigint NOT NULL,
    kind smallint NOT NULL,
    request_id bytea NOT NULL,
    request_digest bytea NOT NULL,
    body bytea NOT NULL,
    -- Of an edit or a deletion: the message.
    target_seq bigint,
    -- Of a message: its newest edit.
    edit_seq bigint,
    -- Of a message and its edits: when the text was overwritten.
    deleted_at bigint,
    visible_to uuid,
    PRIMARY KEY (conversation_id, seq)
);
CREATE UNIQUE INDEX events_request ON events (conversation_id, sender_id, request_id);
CREATE INDEX events_target ON events (conversation_id, target_seq) WHERE target_seq IS NOT NULL;
-- A log is taken for long, however many short ones there are: on the average of all, one request is looked for by reading the
-- whole log of its conversation, which is quick but for those that matter.
ALTER TABLE events ALTER COLUMN conversation_id SET (n_distinct = -0.0001);
CREATE INDEX events_created_at ON events USING brin (created_at) WITH (autosummarize = on);

-- Where watermarks rose lately, in small conversations: kept for a minute, for the receivers' sweep.
CREATE TABLE receipts (
    conversation_id uuid NOT NULL,
    raised_at bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX receipts_raised_at ON receipts USING brin (raised_at) WITH (autosummarize = on);
