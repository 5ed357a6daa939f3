-- What an operator looks after: secrets that are replaced without a gap, keys that rotate when asked to, and the audit log.

-- The secret before the present one, and until when it is good.
ALTER TABLE clients ADD COLUMN previous_sha256 BLOB;
ALTER TABLE clients ADD COLUMN previous_until INTEGER;

-- When another key may take over, if an admin asked for it: before the period of this one is over.
ALTER TABLE signing_keys ADD COLUMN due_at INTEGER;

-- The first six bytes of an id are its time, so the order of the ids is that of the events.
CREATE TABLE audit_events (
    event_id    BLOB    NOT NULL PRIMARY KEY,
    at          INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    session_id  BLOB,
    client_id   TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    refused     INTEGER NOT NULL,
    event_count INTEGER NOT NULL,  -- how many alike it stands for
    detail      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_events_by_actor ON audit_events (actor, event_id);
CREATE INDEX audit_events_by_subject ON audit_events (subject, event_id);
CREATE INDEX audit_events_by_action ON audit_events (action, event_id);

-- Events from before this time may be removed; one row. Retention moves it first.
CREATE TABLE audit_horizon (
    remove_before INTEGER NOT NULL
) STRICT;

INSERT INTO audit_horizon (remove_before) VALUES (0);

CREATE TRIGGER audit_events_unchanged BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events stay as they were written');
END;

CREATE TRIGGER audit_events_kept BEFORE DELETE ON audit_events
WHEN old.at >= (SELECT remove_before FROM audit_horizon)
BEGIN
    SELECT RAISE(ABORT, 'audit events are kept until their time is over');
END;
