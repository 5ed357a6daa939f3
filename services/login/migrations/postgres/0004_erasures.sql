-- Deletions of accounts, in all services: one row each. What is left of it when it is finished says nothing about the person.

CREATE TABLE erasures (
    id            bytea   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    -- Whose; nobody's once it is finished.
    user_id       bytea   UNIQUE,
    created_at    bigint  NOT NULL,
    finished_at   bigint,
    -- When the person's sessions were ended.
    signed_out_at bigint,
    -- What comes next, and where in it.
    step          smallint NOT NULL,
    step_token    text    NOT NULL,
    -- What was removed, as JSON: `{"send.messages": 7}`.
    counts        text    NOT NULL,
    -- How often in a row the step failed, and when it is tried again.
    failures      bigint  NOT NULL,
    next_at       bigint  NOT NULL,
    -- Rises with every change: of two who have done the same step one counts it.
    revision      bigint  NOT NULL,
    -- Until when whoever took it last is left alone with it.
    held_until    bigint  NOT NULL
);

CREATE INDEX erasures_due ON erasures (next_at) WHERE finished_at IS NULL;
CREATE INDEX erasures_finished ON erasures (finished_at) WHERE finished_at IS NOT NULL;
