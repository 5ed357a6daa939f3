-- Deletions of accounts, in all services: one row each. What is left of it when it is finished says nothing about the person.

CREATE TABLE erasures (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Whose; nobody's once it is finished.
    user_id       BLOB    UNIQUE,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    -- When the person's sessions were ended.
    signed_out_at INTEGER,
    -- What comes next, and where in it.
    step          INTEGER NOT NULL,
    step_token    TEXT    NOT NULL,
    -- What was removed, as JSON: `{"send.messages": 7}`.
    counts        TEXT    NOT NULL,
    -- How often in a row the step failed, and when it is tried again.
    failures      INTEGER NOT NULL,
    next_at       INTEGER NOT NULL,
    -- Rises with every change: of two who have done the same step one counts it.
    revision      INTEGER NOT NULL,
    -- Until when whoever took it last is left alone with it.
    held_until    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX erasures_due ON erasures (next_at) WHERE finished_at IS NULL;
CREATE INDEX erasures_finished ON erasures (finished_at) WHERE finished_at IS NOT NULL;
