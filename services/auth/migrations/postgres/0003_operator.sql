-- What an operator looks after: secrets that are replaced without a gap, keys that rotate when asked to, and the audit log.

-- The secret before the present one, and until when it is good.
ALTER TABLE clients ADD COLUMN previous_sha256 BYTEA;
ALTER TABLE clients ADD COLUMN previous_until BIGINT;

-- When another key may take over, if an admin asked for it: before the period of this one is over.
ALTER TABLE signing_keys ADD COLUMN due_at BIGINT;

-- The first six bytes of an id are its time, so the order of the ids is that of the events, whichever pod wrote them. Nobody waits
-- for anybody to number them: a reader that follows the log reads its last seconds again.
CREATE TABLE audit_events (
    event_id    BYTEA   NOT NULL PRIMARY KEY,
    at          BIGINT  NOT NULL,
    actor       TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    session_id  BYTEA,
    client_id   TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    refused     BOOLEAN NOT NULL,
    event_count BIGINT  NOT NULL,  -- how many alike it stands for
    detail      TEXT    NOT NULL
);

CREATE INDEX audit_events_by_actor ON audit_events (actor, event_id);
CREATE INDEX audit_events_by_subject ON audit_events (subject, event_id);
CREATE INDEX audit_events_by_action ON audit_events (action, event_id);

-- Events from before this time may be removed; one row. Retention moves it first.
CREATE TABLE audit_horizon (
    remove_before BIGINT NOT NULL
);

INSERT INTO audit_horizon (remove_before) VALUES (0);

CREATE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF old.at < (SELECT remove_before FROM audit_horizon) THEN
            RETURN old;
        END IF;
        RAISE EXCEPTION 'audit events are kept until their time is over';
    END IF;
    RAISE EXCEPTION 'audit events stay as they were written';
END
$$;

CREATE TRIGGER audit_events_kept BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();

CREATE TRIGGER audit_events_not_emptied BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
