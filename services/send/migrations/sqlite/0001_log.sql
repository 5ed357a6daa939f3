-- The log first, the indexes later: a commit appends to `log` and to nothing else, so that a batch of messages of many
-- conversations dirties few pages. `places`, `requests` and the counters of `conversations` and `members` follow in bulk, for
-- all rows of `log` up to `meta.folded_through`; what lies beyond is in the memory of the one process that owns the file, and is
-- folded at its next start.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE conversations (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    title TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    -- The newest event that is not for one person alone.
    last_public_seq INTEGER NOT NULL,
    last_message_no INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE members (
    conversation_no INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    -- 0 for those who are not members any more.
    role INTEGER NOT NULL,
    joined_seq INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    -- Where earlier memberships began and ended: a JSON array of pairs.
    past TEXT NOT NULL,
    delivered_seq INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    read_message_no INTEGER NOT NULL,
    sent_no INTEGER NOT NULL,
    read_sent_no INTEGER NOT NULL,
    watermark_at INTEGER NOT NULL,
    hidden_seq INTEGER NOT NULL,
    PRIMARY KEY (conversation_no, user_id)
) WITHOUT ROWID;

-- The conversations that a person is or was in.
CREATE TABLE memberships (
    user_id BLOB NOT NULL,
    conversation_no INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_no)
) WITHOUT ROWID;

-- How many conversations a person is in now.
CREATE TABLE people (
    user_id BLOB PRIMARY KEY,
    conversation_count INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE log (
    no INTEGER PRIMARY KEY,
    conversation_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    -- How many messages there are up to this event.
    message_no INTEGER NOT NULL,
    -- How many messages of the same sender there are up to this event; 0 for other kinds.
    sent_no INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    sender_id BLOB NOT NULL,
    -- Conversation and request together in 16 bytes; `request_id` decides.
    request_key BLOB NOT NULL,
    request_id TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    target_seq INTEGER NOT NULL,
    -- Of an edit: the edit of the same message before it.
    previous_edit_no INTEGER,
    visible_to BLOB,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- Of a message: its newest edit.
    edit_no INTEGER,
    -- Of a message and its edits: when the text was overwritten.
    deleted_at INTEGER
);

-- Where in the log an event lies.
CREATE TABLE places (
    conversation_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    log_no INTEGER NOT NULL,
    PRIMARY KEY (conversation_no, seq)
) WITHOUT ROWID;

-- Where in the log a request lies.
CREATE TABLE requests (
    key BLOB NOT NULL,
    log_no INTEGER NOT NULL,
    PRIMARY KEY (key, log_no)
) WITHOUT ROWID;
